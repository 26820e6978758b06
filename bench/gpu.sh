#!/bin/sh
# The check of the CUDA backend on a machine with an NVIDIA GPU, which needs nothing but the driver.
#
#   tests/gpu/device.sh pack BUILD     here: gathers programs, libraries and test data in build/device
#   sh build/device/device.sh run      there: tests, agreement, speed; ends with a table
#   sh build/device/device.sh flash    there: full-shape q2 file (--alias-experts), bench
#
# BUILD is a build folder of the preset `cuda`. With OUT set, logs and CSV files go there.
set -eu

pack() {
  build=$1
  root=$(cd "$(dirname "$0")/../.." && pwd)
  out=$root/build/device
  rm -rf "$out"
  mkdir -p "$out/lib"
  for program in backend_test gpu_test narwhal; do
    strip -o "$out/$program" "$build/$program"
    # Everything but the C library, which is the other machine's own.
    ldd "$build/$program" | awk '$3 ~ /^\// && $1 !~ /^lib(c|m|dl|rt|pthread|gcc_s)\.so/ { print $3 }'
  done | sort -u | xargs -I{} cp -L {} "$out/lib/"
  cp -r "$root/tests/data/tiny" "$out/tiny"
  cp "$0" "$out/device.sh"
  du -sh "$out"
}

enter() {
  cd "$(dirname "$0")"
  here=$(pwd)
  OUT=${OUT:-$here/out}
  mkdir -p "$OUT"
  export LD_LIBRARY_PATH="$here/lib"
  # Tests look for their data where they were built.
  data=$(strings gpu_test 2>/dev/null | grep -m1 '/tests/data$' || true)
  if [ -n "$data" ] && [ ! -e "$data/tiny" ]; then
    mkdir -p "$data"
    cp -r tiny "$data/tiny"
  fi
}

row() { printf '%-44s %s\n' "$1" "$2" >>"$OUT/table.txt"; }

check() { # NAME PROGRAM FILTER
  "./$2" "--gtest_filter=$3" >"$OUT/$1.log" 2>&1 && ok=passed || ok=FAILED
  row "$1" "$ok: $(grep -E '^\[  (PASSED|FAILED)  \] [0-9]+ tests?' "$OUT/$1.log" | tr '\n' ' ')"
}

run() {
  enter
  : >"$OUT/table.txt"
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.draw --format=csv,noheader | tee "$OUT/gpu.txt"
  check ops backend_test '*cuda*'
  check forward gpu_test '*cuda*:*HostUntouched*'
  for prompt in "What is 47 + 85?" "Write one sentence about the sea."; do
    ./narwhal run --backend cuda --temp 0 -n 200 -p "$prompt" >"$OUT/cuda.txt" 2>>"$OUT/run.log"
    ./narwhal run --backend cpu --temp 0 -n 200 -p "$prompt" >"$OUT/cpu.txt" 2>>"$OUT/run.log"
    cmp -s "$OUT/cuda.txt" "$OUT/cpu.txt" && same=same || same=differs
    row "minnow, cuda against cpu: $prompt" "$same"
  done
  if command -v compute-sanitizer >/dev/null; then
    compute-sanitizer --error-exitcode 9 ./backend_test '--gtest_filter=*OpsAgree*cuda*' \
      >"$OUT/sanitizer.log" 2>&1 && row "compute-sanitizer, op tests" clean ||
      row "compute-sanitizer, op tests" "$(tail -n 1 "$OUT/sanitizer.log")"
  fi
  cat "$OUT/table.txt"
}

flash() {
  enter
  model=${1:-/dev/shm/flash.gguf}
  [ -e "$model" ] || ./narwhal synth -o "$model" --quant q2 --alias-experts 1 --memory-floor-mib 0
  nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw --format=csv,noheader
  # Aliased experts are one layer's worth of bytes: routed experts partly come from the L2 cache.
  ./narwhal bench --backend cuda -m "$model" --ctx 40960 --ctx-start 2048 --ctx-max 32768 \
    --step-mul 4 --gen 64 --repeat 1 --csv "$OUT/flash.csv"
  nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw --format=csv,noheader
}

mode=${1:-}
[ $# -gt 0 ] && shift
case $mode in
  pack) pack "${1:-build/cuda}" ;;
  run) run ;;
  flash) flash "$@" ;;
  *) echo "usage: device.sh pack BUILD | run | flash [MODEL]" >&2; exit 2 ;;
esac
