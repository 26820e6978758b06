#!/bin/sh
# The NEON kernels under emulation: cross-compiles the kernel tests for AArch64 and runs them with
# qemu-user, at levels i8mm, neon and portable. Skipped, with a line that says so, where the tools are missing.
#
#   tests/cpu/neon.sh [build folder]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/build/neon}
cxx=aarch64-linux-gnu-g++
gtest=/usr/src/googletest/googletest

for tool in $cxx qemu-aarch64; do
  if ! command -v $tool >/dev/null 2>&1; then
    echo "skipped: $tool is not installed (Debian: g++-aarch64-linux-gnu qemu-user)"
    exit 0
  fi
done
if [ ! -f $gtest/src/gtest-all.cc ] || [ ! -d /usr/include/fmt ]; then
  echo "skipped: the sources of GoogleTest and the headers of fmt are not installed"
  exit 0
fi

mkdir -p "$out/include"
ln -sfn /usr/include/fmt "$out/include/fmt"
flags="-std=c++20 -O2 -ffp-contract=off -fno-math-errno -DFMT_HEADER_ONLY -I$root/src -I$root/include
  -I$out/include -I$gtest/include"

compile() { # source object extra-flags
  [ "$2" -nt "$1" ] && [ "$2" -nt "$newest" ] && return
  # shellcheck disable=SC2086
  $cxx $flags ${3:-} -c "$1" -o "$2"
}
# shellcheck disable=SC2012
newest=$(ls -t "$root"/src/backend/cpu/kernels/*.h "$root"/src/quant/*.h "$root"/src/base/*.h | head -n 1)
objects=
for source in "$root"/src/backend/cpu/kernels/*.cc "$root"/src/quant/*.cc "$root"/src/tensor/*.cc \
  "$root"/src/ops/row_codec.cc "$root"/src/base/check.cc; do
  [ -f "$source" ] || continue
  case $source in
    */kernels/kernels_test.cc) ;;
    *_test.cc) continue ;;
  esac
  object=$out/$(basename "$source" .cc).o
  case $source in
    */neon.cc) compile "$source" "$object" -march=armv8.2-a+dotprod ;;
    */i8mm.cc) compile "$source" "$object" -march=armv8.2-a+dotprod+i8mm ;;
    *) compile "$source" "$object" ;;
  esac
  objects="$objects $object"
done
for source in gtest-all gtest_main; do
  [ -f "$out/$source.o" ] || $cxx -std=c++17 -O1 -I$gtest/include -I$gtest -c $gtest/src/$source.cc -o "$out/$source.o"
  objects="$objects $out/$source.o"
done
# shellcheck disable=SC2086
$cxx -static $objects -lpthread -o "$out/kernels_test"
qemu-aarch64 -cpu max "$out/kernels_test" --gtest_brief=1
