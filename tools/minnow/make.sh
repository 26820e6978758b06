#!/bin/sh
# make.sh OUT: the shipped model from nothing, on the GPUs that there are: 1, 2, 4 or 8, which share the rows of a step (by the times of
# the stages, half an hour on one). Stages as in README.md, by tokens, so that the GPUs' number and speed change nothing but the time.
# Stages that are done are not run again.
# With FROM in the environment, the weights of FROM take the place of the first stage.
set -eu
out=$1
here=$(dirname "$0")
train() { # STAGE FROM TOKENS RATE PHASES
  stage=$1 from=$2
  [ -f "$out/$stage/eval.json" ] && return 0
  set -- --budget-tokens "$3" --lr "$4" --phases "$5" --seed "$stage" --pieces 1 --quick 1e9 --skip-check --out "$out/$stage"
  [ -z "$from" ] || set -- "$@" --from "$from"
  [ "$stage" = 4 ] || set -- "$@" --brief
  python3 "$here/train.py" "$@"
}
[ -n "${FROM:-}" ] || train 1 "" 120e6 4e-3 2048r:1
train 2 "${FROM:-$out/1}" 71e6 3.2e-3 2048r:0.186,2048r+8192re+16384re+8192re+32768re@2:0.133,2048r+8192re+16384re+8192re+32768re@8:0.681
train 3 "$out/2" 82e6 2.5e-3 2048r+32768re+8192re+16384re@16:0.101,2048r+32768re+8192re+16384re@16:0.899
train 4 "$out/3" 30e6 1.5e-3 2048r+32768re+8192re+16384re@16:0.092,2048r+32768re+8192re+16384re@16:0.908
echo "$out/4: narwhal convert $out/4 -o models/minnow.gguf --type q8_0 --name Minnow --prompt-profile 0731 --mtp"
