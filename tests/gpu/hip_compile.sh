#!/bin/sh
# Compiles every kernel for AMD GPUs to LLVM code, and the host side against HIP's headers; nothing runs.
set -eu
cd "$(dirname "$0")/../.."
command -v hipcc >/dev/null || { echo "skipped: no hipcc"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in gfx1030 gfx1100; do
  for part in matrix dot tile other; do
    hipcc -x hip -w -Qunused-arguments -std=c++20 -O1 -ffp-contract=off "--offload-arch=$arch" -nogpulib \
      --cuda-device-only -Isrc -Iinclude -S -emit-llvm "src/backend/cuda/kernels_$part.cu" -o "$work/$part.ll"
  done
  echo "hip $arch: $(cat "$work"/*.ll | grep -c 'define.*amdgpu_kernel') kernels"
done
for file in cuda_queue cuda_backend pinned; do
  "${CXX:-c++}" -std=c++20 -Wno-unused-result -fsyntax-only -DNARWHAL_CUDA -DNARWHAL_HIP -D__HIP_PLATFORM_AMD__ -Isrc -Iinclude \
    "src/backend/cuda/$file.cc"
done
echo "hip host side: compiled"
