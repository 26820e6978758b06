#!/bin/sh
# The check and the measurement of the CUDA backend on a machine with an NVIDIA GPU, which needs
# nothing but the driver; with the CUDA toolkit there, also memory checks and a profile.
#
#   bench/gpu.sh pack BUILD      here: gathers programs, libraries and test data in build/device
#   sh build/device/gpu.sh       there, all of it:
#   sh build/device/gpu.sh STEP...
#     check     ops, goldens, chunks and batches on the GPU; compute-sanitizer
#     agree     Minnow's logits against the scalar reference, 2,000 positions, as prompts and decoded
#     load      how fast weights come to the card, of the bus's rate in the same run
#     flash     full-shape q2 file (one layer's experts for all), speed at 2k, 8k and 32k
#     host      the whole file with a twentieth of the experts in this machine's memory
#     profile   the kernels of a decoded token and of a prompt chunk, by time (needs ncu)
#
# BUILD is a build folder of the preset `cuda`. Logs and CSV files go to the folder OUT, by default
# `out` beside the script; model files to SCRATCH, by default /dev/shm: 45 GB for `load`, 87 for
# `host`, which are removed afterwards, 11 and 11 for `flash` and `profile`.
set -eu

pack() {
  build=$1
  root=$(cd "$(dirname "$0")/.." && pwd)
  out=$root/build/device
  rm -rf "$out"
  mkdir -p "$out/lib"
  for program in backend_test gpu_test narwhal; do
    strip -o "$out/$program" "$build/$program"
    # Everything but the C library, which is the other machine's own.
    ldd "$build/$program" | awk '$3 ~ /^\// && $1 !~ /^lib(c|m|dl|rt|pthread|gcc_s)\.so/ { print $3 }'
  done | sort -u | xargs -I{} cp -L {} "$out/lib/"
  cp -r "$root/tests/data/tiny" "$out/tiny"
  cp "$0" "$out/gpu.sh"
  du -sh "$out"
}

enter() {
  cd "$(dirname "$0")"
  OUT=${OUT:-$(pwd)/out}
  SCRATCH=${SCRATCH:-/dev/shm}
  mkdir -p "$OUT"
  LD_LIBRARY_PATH=$(pwd)/lib
  export LD_LIBRARY_PATH
  # Tests look for their data where they were built.
  data=$(strings gpu_test 2>/dev/null | grep -m1 '/tests/data$' || true)
  if [ -n "$data" ] && [ ! -e "$data/tiny" ]; then
    mkdir -p "$data"
    cp -r tiny "$data/tiny"
  fi
}

clocks() {
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw --format=csv,noheader
}

suite() { # NAME PROGRAM FILTER
  "./$2" "--gtest_filter=$3" >"$OUT/$1.log" 2>&1 && ok=passed || ok=FAILED
  printf '%-24s %s: %s\n' "$1" "$ok" "$(grep -E '^\[  (PASSED|FAILED)  \] [0-9]+ tests?' "$OUT/$1.log" | tr '\n' ' ')"
}

check() {
  suite ops backend_test '*cuda*'
  suite forward gpu_test '*cuda*:*HostUntouched*'
  command -v compute-sanitizer >/dev/null || return 0
  sanitized ops ./backend_test '*OpsAgree*cuda*'
  sanitized loading ./gpu_test '*Load*cuda*'
}

sanitized() { # NAME PROGRAM FILTER
  compute-sanitizer --error-exitcode 9 "$2" "--gtest_filter=$3" >"$OUT/sanitizer-$1.log" 2>&1 &&
    clean=clean || clean=$(tail -n 1 "$OUT/sanitizer-$1.log")
  printf '%-24s %s\n' "sanitizer, $1" "$clean"
}

agree() {
  for chunk in 0 1; do # as a prompt in the backend's chunks; one token at a time
    printf '%-24s ' "agreement, --chunk $chunk"
    ./narwhal eval agreement --backend cuda --chunk "$chunk" 2>>"$OUT/agree.log" | tee -a "$OUT/agree.txt"
  done
}

model() { # NAME ARGS
  file=$SCRATCH/narwhal-$1.gguf
  shift
  [ -e "$file" ] || ./narwhal synth -o "$file" --quant q2 --memory-floor-mib 0 "$@" >/dev/null
}
flash_model() { model flash --alias-experts 1; }

# Half of the layers, with experts of their own: 45 GB. The second time the file's pages are known
# to be in memory.
load() {
  model half --layers 22
  for try in 1 2; do
    ./narwhal bench --backend cuda -m "$file" --ctx 1024 --ctx-start 128 --ctx-max 128 --gen 4 \
      --warmup 0 --repeat 1 --csv "$OUT/load-$try.csv" | grep '^load'
  done
  rm -f "$file"
}

flash() {
  flash_model
  clocks
  # Experts of one layer serve for all: a part of them comes from the cache on the chip.
  ./narwhal bench --backend cuda -m "$file" --ctx 40960 --ctx-start 2048 --ctx-max 32768 \
    --step-mul 4 --gen 64 --repeat 2 --csv "$OUT/flash.csv"
  clocks
}

# As on a card of 80 GB: 4 to 5% of the experts stay out of the whole file, 87 GB.
host() {
  model whole
  ./narwhal bench --backend cuda -m "$file" --gpu-memory-mb 79000 --ctx 4096 --ctx-start 2048 \
    --ctx-max 2048 --gen 64 --repeat 2 --csv "$OUT/host.csv"
  rm -f "$file"
}

profile() {
  command -v ncu >/dev/null || { echo "profile: no ncu"; return 0; }
  model flash-5-layers --layers 5 --alias-experts 1
  ncu --clock-control none --cache-control none --graph-profiling node -k 'regex:^nw_(?!repack)' \
    --metrics gpu__time_duration.sum,dram__bytes_read.sum --csv --launch-count 1000 \
    --log-file "$OUT/profile.csv" ./narwhal bench --backend cuda -m "$file" --ctx 4096 \
    --ctx-start 2048 --ctx-max 2048 --gen 4 --warmup 1 --repeat 1 >/dev/null 2>&1 || true
  # Kernel, launches, microseconds each and in all; five layers, prompt and decoding together.
  python3 - "$OUT/profile.csv" <<'PY'
import collections, csv, sys
rows = [r for r in csv.reader(open(sys.argv[1])) if len(r) > 10]
at = {name: i for i, name in enumerate(rows[0])}
times = collections.defaultdict(list)
unit = {"ns": 1e-3, "us": 1, "ms": 1e3, "nsecond": 1e-3, "usecond": 1, "msecond": 1e3}
for r in rows[1:]:
    if r[at["Metric Name"]] == "gpu__time_duration.sum":
        value = float(r[at["Metric Value"]].replace(",", "")) * unit[r[at["Metric Unit"]]]
        times[r[at["Kernel Name"]]].append(value)
for name, t in sorted(times.items(), key=lambda x: -sum(x[1])):
    print(f"{name:34} {len(t):5} {sum(t) / len(t):10.1f} {sum(t):12.1f}")
PY
}

if [ "${1:-}" = pack ]; then
  pack "${2:-build/cuda}"
  exit
fi
[ $# -gt 0 ] || set -- check agree load flash host profile
for step in "$@"; do
  case $step in
    check | agree | load | flash | host | profile) ;;
    *) echo "usage: gpu.sh pack BUILD | [check] [agree] [load] [flash] [host] [profile]" >&2; exit 2 ;;
  esac
done
enter
clocks
for step in "$@"; do "$step"; done
