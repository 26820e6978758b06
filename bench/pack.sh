#!/bin/sh
# bench/pack.sh NARWHAL DIR: puts a built program, every library it needs and remote.sh into DIR, to
# be carried to a machine that has none of them.
set -eu
program=${1:?usage: pack.sh NARWHAL DIR}
dir=${2:?usage: pack.sh NARWHAL DIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/lib"
cp "$program" "$dir/narwhal"
strip "$dir/narwhal"
ldd "$program" | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | while read -r library; do
  cp -L "$library" "$dir/lib/"
done
cp "$here/remote.sh" "$dir/remote.sh"
du -sh "$dir"
