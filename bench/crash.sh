#!/bin/sh
# crash.sh [KILLS [SEED]]: kills writers of a disk cache at random moments, 1,000 times unless told
# otherwise, with readers at work. Prints one line; fails when a restore gave wrong bytes, a file was
# damaged or a store could not be used again. KV_CRASH names the program built from bench/kv_crash.cc.
set -eu
cd "$(dirname "$0")/.."
program=${KV_CRASH:-build/release/kv_crash}
[ -x "$program" ] || { printf '%s is not built; cmake --build --preset release --target kv_crash\n' "$program" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$program" "$folder/kv" "${1:-1000}" "${2:-1}"
