#!/bin/sh
# Compiles every kernel for AMD GPUs to LLVM code; no ROCm library is needed, and nothing runs.
set -eu
cd "$(dirname "$0")/../.."
command -v hipcc >/dev/null || { echo "skipped: no hipcc"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in gfx1030 gfx1100; do
  hipcc -w -Qunused-arguments -std=c++20 -O1 -ffp-contract=off --offload-arch=$arch -nogpulib --cuda-device-only -Isrc -S \
    -emit-llvm src/backend/hip/kernels.hip -o "$work/$arch.ll"
  echo "hip $arch: $(grep -c 'define.*amdgpu_kernel' "$work/$arch.ll") kernels"
done
