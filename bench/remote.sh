#!/bin/sh
# bench/remote.sh OUT [NARWHAL]: measures this machine and writes tables, CSV, JSON and a plot into
# the folder OUT. Needs no network.
#
# NARWHAL is a built program; without it `narwhal` beside this script, then build/remote/narwhal,
# which is built when missing. To carry a program to a machine without compilers, with the libraries
# it needs:
#
#   bench/pack.sh build/release/narwhal packed/     # here
#   packed/remote.sh results/                       # there
#
# A synthetic q2 file of the full shape (9.9 GiB) is written to $SCRATCH, or to the first of
# /dev/shm, OUT and /tmp with room for it, and removed at the end.
set -eu
out=${1:?usage: remote.sh OUT [NARWHAL]}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

narwhal=${2:-}
if [ -z "$narwhal" ] && [ -x "$here/narwhal" ]; then narwhal=$here/narwhal; fi
if [ -z "$narwhal" ]; then
  root=$(dirname "$here")
  narwhal=$root/build/remote/narwhal
  if [ ! -x "$narwhal" ]; then
    cmake -S "$root" -B "$root/build/remote" -DCMAKE_BUILD_TYPE=Release -DNARWHAL_DEVELOPER=OFF
    cmake --build "$root/build/remote" --target narwhal --parallel
  fi
fi
# Libraries carried along are used only where the machine lacks its own.
run() {
  if [ -d "$here/lib" ]; then
    "$here"/lib/ld-linux*.so.* --library-path "$here/lib" "$narwhal" "$@"
  else
    "$narwhal" "$@"
  fi
}

# measure NAME ARGS: NAME.csv, NAME.json and the table in NAME.txt.
measure() {
  name=$1
  shift
  echo "== $name: narwhal bench $*"
  run bench "$@" --csv "$out/$name.csv" --json >"$out/$name.json" 2>"$out/$name.txt" || failed=1
  cat "$out/$name.txt"
}

failed=0
run --version
lscpu >"$out/lscpu.txt" 2>/dev/null || true
measure minnow --ctx-max 4096 --gen 64 --svg "$out/minnow.svg"
measure ops --ops

# The first of the folders with 11 GiB free; memory first.
scratch=
for folder in ${SCRATCH:-/dev/shm "$out" /tmp}; do
  free=$(df -Pk "$folder" 2>/dev/null | awk 'NR==2 {print $4}')
  if [ "${free:-0}" -gt 11534336 ]; then
    scratch=$folder
    break
  fi
done
if [ -n "$scratch" ]; then
  model=$scratch/narwhal-flash-$$.gguf
  trap 'rm -f "$model" "$model.partial"' EXIT
  run synth --shape flash --quant q2 --alias-experts 1 --out "$model"
  measure flash-512 -m "$model" --ctx-start 512 --ctx-max 512 --gen 32 --repeat 3
  measure flash-2048 -m "$model" --ctx-start 2048 --ctx-max 2048 --gen 32 --repeat 3 \
    --svg "$out/flash-2048.svg"
else
  echo "no room for the full-shape file; set SCRATCH to a folder with 11 GiB free"
fi
ls -l "$out"
exit "$failed"
