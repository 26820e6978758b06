#!/bin/sh
# Compiles every kernel for NVIDIA GPUs where nvcc is found; no GPU is needed, and nothing runs.
# cuda_compile.sh [CAPABILITY...]      default 80 90a 120
set -eu
cd "$(dirname "$0")/../.."
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "skipped: no nvcc"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- 80 90a 120
for arch in "$@"; do
  for part in matrix dot tile other; do
    "$nvcc" -std=c++20 -O3 -fmad=false -gencode "arch=compute_$arch,code=sm_$arch" -Xptxas -v \
      -Isrc -Iinclude -c "src/backend/cuda/kernels_$part.cu" -o "$work/$part.o" 2>>"$work/log" ||
      { cat "$work/log"; exit 1; }
  done
  spills=$(grep -c '[1-9][0-9]* bytes spill stores' "$work/log" || true)
  echo "cuda sm_$arch: $(grep -c 'Compiling entry function' "$work/log") kernels, $spills with spills"
  : >"$work/log"
done
