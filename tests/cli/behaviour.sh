#!/bin/sh
# behaviour.sh NARWHAL: what the built program does with good and bad command lines. Prints each
# fault and ends with "N passed, M failed".
set -u
narwhal=$(realpath "$1")
data=$(realpath "$(dirname "$0")/../data")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
unset NARWHAL_MODEL
passed=0
failed=0

# check NAME CONDITION...: counts; on failure shows what the last command gave.
check() {
  label=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n  exit %s\n  out: %.300s\n  err: %.300s\n' "$label" "$code" "$(cat out)" "$(cat err)"
  fi
}

# call ARGS: runs narwhal, standard input from ./in (empty unless written before).
: >in
call() {
  code=0
  "$narwhal" "$@" <in >out 2>err || code=$?
  : >in
}

# refuses NAME CODE PATTERN ARGS: exit code, one line on standard error that matches, no output.
refuses() {
  name=$1 want=$2 pattern=$3
  shift 3
  call "$@"
  check "$name: exit code $want" [ "$code" -eq "$want" ]
  check "$name: one line" [ "$(wc -l <err)" -eq 1 ]
  check "$name: says narwhal: $pattern" grep -q -- "^narwhal: .*$pattern" err
  check "$name: no output" [ ! -s out ]
}

out_is() { [ "$(cat out)" = "$1" ]; }
out_has() { grep -q -- "$1" out; }
err_has() { grep -q -- "$1" err; }
succeeded() { [ "$code" -eq 0 ]; }

# Usage.
refuses "no command" 2 "no command"
refuses "unknown command" 2 "did you mean chat?" chta
refuses "unknown option" 2 "did you mean --temp?" run --tmp 1
refuses "value missing" 2 "--max-tokens" run --max-tokens
refuses "bad number" 2 "expected a whole number" run -n x -p hi
refuses "bad choice" 2 "expected one of auto|.*cpu|ref" run --backend abacus -p hi
refuses "bad sampling" 2 "top_p is 3" run --top-p 3 -p hi
refuses "two texts" 2 "exclude each other" run -p a -f b
refuses "think and nothink" 2 "exclude each other" run --think --nothink -p a
refuses "logits without out" 2 "--out" logits --ids 1
refuses "eval of what" 2 "expected one of skills" eval nonsense
refuses "logits without ids" 2 "--ids" logits --out x.f32
refuses "bench with two kinds of steps" 2 "exclude each other" bench --step-incr 5 --step-mul 2
refuses "bench with steps all decoded" 2 "longer steps" bench --ctx-start 64 --step-incr 16
refuses "bench --ops with a plot" 2 "--svg" bench --ops --svg x.svg
refuses "cache without folder" 2 "--kv-disk-dir" cache
refuses "cache action" 2 "expected one of ls|show" cache look --kv-disk-dir x
refuses "cache that is missing" 3 "no cache here" cache ls --kv-disk-dir nowhere
refuses "convert without folder" 2 "no checkpoint" convert --out x.gguf
refuses "convert tensor type" 2 "unknown type" convert . --out x.gguf --tensor-type a=b
refuses "synth without out" 2 "--out" synth
call --help
check "help" succeeded
check "help lists commands" out_has "^  tokenize "
call run --help
check "help of a command has examples" out_has "^Examples:"
call --version
check "version" out_has "^narwhal [0-9]"

# Bad files.
refuses "missing model" 3 "missing.gguf" run -m missing.gguf -p hi
NARWHAL_MODEL=fromenv.gguf
export NARWHAL_MODEL
refuses "model of the environment" 3 "fromenv.gguf" run -p hi
unset NARWHAL_MODEL
printf 'not a model' >text.gguf
refuses "no GGUF" 3 "text.gguf" inspect -m text.gguf
refuses "a folder" 3 "not a regular file" inspect -m .
printf 'caf\351\n' >latin1.txt
refuses "not UTF-8" 3 "latin1.txt: not UTF-8 at byte 3" run -f latin1.txt
cp latin1.txt in
refuses "not UTF-8 on standard input" 3 "standard input" run
refuses "missing text" 3 "none.txt" run -f none.txt
refuses "missing checkpoint" 3 "nowhere" convert nowhere --out x.gguf
check "nothing is left behind" [ -z "$(ls x.gguf* 2>/dev/null)" ]

# A small synthetic model: made, cut short, inspected, computed.
call synth --shape tiny --quant f16 --flavor rich --out tiny.gguf
check "synth" succeeded
head -c 20000 tiny.gguf >cut.gguf
refuses "truncated model" 3 "cut.gguf" run -m cut.gguf -p hi
refuses "truncated model, inspect" 3 "cut.gguf" inspect -m cut.gguf
call inspect -m tiny.gguf
check "inspect" succeeded
check "inspect plans memory" out_has "Memory plan"
call inspect -m tiny.gguf --json --tensors --ctx 4096 --sessions 2
check "inspect json" out_has '"sessions": 2'
check "inspect json lists tensors" out_has '"token_embd.weight"'
refuses "context larger than the model's" 2 "--ctx" run -m tiny.gguf -p hi --ctx 900000000000
# A file of holes: half a terabyte of weights in a few blocks on disk.
call synth --shape tiny --experts 2048 --hidden 8192 --ffn 8192 --sparse all --out huge.gguf
check "synth of holes" succeeded
refuses "does not fit in memory" 4 "GiB" run -m huge.gguf -p hi
call inspect -m huge.gguf
check "inspect a model that does not fit" out_has "does not fit"
rm -f huge.gguf
call logits -m tiny.gguf --ids "1 2 3 4 5" --kv-precision f32 --out a.f32
check "logits" succeeded
call inspect -m tiny.gguf --json
vocab=$(sed 's/.*"vocab": \([0-9]*\).*/\1/' out)
check "five rows of floats" [ "$(wc -c <a.f32)" -eq $((vocab * 5 * 4)) ]
call logits -m tiny.gguf --ids "1,2,3,4,5" --kv-precision f32 --chunk 2 --out b.f32
check "chunks of two, same bits" cmp -s a.f32 b.f32
refuses "id out of range" 3 "token id" logits -m tiny.gguf --ids "1 99999999" --out c.f32
check "no partial logits" [ ! -e c.f32 ]
call convert "$data/tiny" --out converted.gguf --type q8_0 --tensor-type "output.weight=f16" --json
check "convert" succeeded
check "convert reports types" out_has '"q8_0": '
refuses "a model without a tokenizer" 3 "no tokenizer" run -m converted.gguf -p hi
call convert "$data/tiny" --out none/x.gguf
check "convert into a folder that is not there fails" [ "$code" -eq 1 ]

# Tokens.
printf '{"model": {"type": "Unigram"}}\n' >small.json
call tokenize -p "What is 47 + 85?"
check "tokenize" succeeded
cp out ids.txt
call tokenize --decode -f ids.txt
check "tokens decode to the text" out_is "What is 47 + 85?"
printf '"a b"\n"<think>\\n"\n' >in
call tokenize --jsonl
check "jsonl: one array a line" [ "$(wc -l <out)" -eq 2 ]
cp out in
call tokenize --jsonl --decode
check "jsonl round trip" out_is '"a b"
"<think>\n"'
printf '{"a": 1}\n' >in
refuses "jsonl: not a string" 3 "line 1: expected a JSON string" tokenize --jsonl
call tokenize -p "<think>" --special --json
check "special tokens are one id" out_has '"count": 1'
call tokenize -p "<think>" --json
check "text is never a control token" [ "$(grep -c '"count": 1}' out)" -eq 0 ]
refuses "bad id" 3 "token id 'x'" tokenize --decode -p x
refuses "broken tokenizer" 3 "small.json" tokenize --tokenizer small.json -p x

# Answers of the embedded model.
refuses "nothing on standard input" 2 "standard input is empty" run
call run -p "What is 47 + 85?" --temp 0 -n 8 --nothink --ctx 512
check "run" succeeded
check "run: answer on standard output" [ -s out ]
check "run: statistics on standard error" err_has "tok/s"
cp out first
printf 'What is 47 + 85?\n' >in
call run --temp 0 -n 8 --nothink --ctx 512
check "run from standard input" cmp -s out first
call run -p "What is 47 + 85?" --temp 0 -n 3 --json --ctx 512
check "run --json" out_has '"finish_reason": "length"'
check "run --json counts" out_has '"output_tokens": 3'
call run -p "Hello" --seed 5 --temp 1 -n 12 --json --ctx 512
sed 's/"[a-z]*_ms": [0-9.e-]*, //g' out >seeded
call run -p "Hello" --seed 5 --temp 1 -n 12 --json --ctx 512
sed 's/"[a-z]*_ms": [0-9.e-]*, //g' out >again
check "same seed, same answer" cmp -s seeded again
seq 1 900 >long.txt
call run -f long.txt --temp 0 -n 4 --nothink --kv-disk-dir kv --json
check "disk cache: cold" out_has '"reused_tokens": 0'
sed 's/.*"text": \("[^"]*"\).*/\1/' out >cold
call run -f long.txt --temp 0 -n 4 --nothink --kv-disk-dir kv --json
check "disk cache: the second start reuses the prompt" out_has '"reuse_source": "disk"'
sed 's/.*"text": \("[^"]*"\).*/\1/' out | cmp -s - cold
check "disk cache: same answer" [ $? -eq 0 ]
check "disk cache: private folder" [ "$(stat -c %a kv 2>/dev/null || stat -f %Lp kv)" = 700 ]
call cache ls --kv-disk-dir kv --json
check "cache ls --json: entries" out_has '"entries": \[{"id": "'
id=$(sed 's/.*"entries": \[{"id": "\([0-9a-f]*\).*/\1/' out)
call cache show "$(printf '%.8s' "$id")" --kv-disk-dir kv
check "cache show: by the beginning of the id" [ "$(head -n 1 out)" = "$id" ]
call cache verify --kv-disk-dir kv
check "cache verify" out_has ", 0 damaged"
file=$(find kv -name '*.block' | head -n 1)
printf 'x' | dd of="$file" bs=1 seek=20000 conv=notrunc 2>/dev/null
call cache verify --kv-disk-dir kv
check "cache verify: exit code of a damaged file" [ "$code" -eq 3 ]
check "cache verify: names it" out_has "$(basename "$file"): the checksum"
call run -f long.txt --temp 0 -n 4 --nothink --kv-disk-dir kv --json
check "disk cache: after damage" out_has "\"text\": $(cat cold)"
call cache rm --all --kv-disk-dir kv
check "cache rm --all" [ -z "$(find kv -name '*.frontier')" ]
refuses "prompt longer than the context" 2 "--ctx" run -p "$(seq 1 400)" --ctx 128
printf 'Hello.\n/ctx\n/save talk.json\n/load talk.json\nBye.\n/stats\n/quit\nnever read\n' >in
call chat --temp 0 -n 8 --nothink --ctx 1024
check "chat from a pipe" succeeded
check "chat: no prompt sign in a pipe" [ "$(grep -c '^> ' out)" -eq 0 ]
check "chat: tokens counted" err_has "of 1024 tokens used"
check "chat: saved" grep -q '"role": "assistant"' talk.json
printf '/load talk.json\nBye.\n/stats\n' >in
call chat --temp 0 -n 8 --nothink --ctx 1024
check "chat: a loaded conversation is not read again" err_has "reused"
printf 'damaged' >talk.json.state
printf '/load talk.json\nBye.\n/stats\n' >in
call chat --temp 0 -n 8 --nothink --ctx 1024
check "chat: a damaged state is named" err_has "will be read again"
check "chat: and does no harm" succeeded
printf '/load text.gguf\n' >in
refuses "chat: bad file" 3 "text.gguf" chat
printf '/wat\n' >in
refuses "chat: unknown command" 2 "/wat" chat

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
