#!/bin/sh
# Checks the kernels as Metal text without a Mac: clang's C++ for OpenCL knows the same address spaces,
# and a small shim stands in for Metal's library. Every entry point is instantiated. Then a fault is
# planted in every kernel file (a pointer without its address space) and must be rejected.
#
# It is a lint: Apple's compiler decides, and nothing runs. On a Mac with Xcode that compiler is asked
# instead.
set -eu
cd "$(dirname "$0")/../.."
if [ "$(uname)" = Darwin ]; then
  xcrun --find metal >/dev/null 2>&1 || { echo "skipped: no Metal compiler; it comes with Xcode"; exit 0; }
  xcrun metal -std=metal3.1 -fno-fast-math -Isrc -c src/backend/metal/kernels.metal -o /dev/null
  echo "metal: compiled by $(xcrun metal --version | head -n 1)"
  exit 0
fi
command -v clang++ >/dev/null || { echo "skipped: no clang++"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
off='-__opencl_c_generic_address_space,-__opencl_c_pipes,-__opencl_c_device_enqueue,+cl_khr_fp16'

lint() { # folder that holds kernels/, text
  clang++ -x cl -cl-std=clc++2021 -Xclang "-cl-ext=$off" -target spir64 -D__METAL_VERSION__=300 \
    -DMETAL_LINT -Itests/gpu/shim "-I$1" -fsyntax-only -Wno-everything "$2"
}

kernels=src/backend/metal/kernels.metal
lint src $kernels
# The one text that goes into the program.
cmake -DSOURCE=$kernels -DROOT=src "-DOUT=$work/one.metal" -P cmake/metal_text.cmake
lint "$work" "$work/one.metal"
n=0
for file in src/kernels/*.h; do
  name=$(basename "$file")
  case $name in portable* | kernel_list.h) continue ;; esac
  grep -q k_device "$file" || continue  # computes on values only
  rm -rf "$work/kernels"
  cp -r src/kernels "$work/kernels"
  # The first pointer into device memory that a function declares or takes loses its address space.
  awk '!done && /\(k_device const|^ +k_device [a-z].*\* [a-z]+ = / {
         if (sub(/k_device /, "")) done = 1
       } { print }' "$file" >"$work/kernels/$name"
  cmp -s "$file" "$work/kernels/$name" && continue  # has no such pointer
  if lint "$work" $kernels >/dev/null 2>&1; then
    echo "$name: accepted a pointer without address space"
    exit 1
  fi
  n=$((n + 1))
done
[ "$n" -ge 8 ] || { echo "faults were planted in $n files only"; exit 1; }
echo "metal lint: all entry points accepted, planted faults in $n files rejected"
