#!/bin/sh
# tests/clients/run.sh NARWHAL [WORK_DIR]: starts `NARWHAL serve` with the embedded model and runs the
# client libraries against it. Prints "N passed, M failed"; without npm, or when the registry does
# not deliver, one line that says so.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
narwhal=$1
work=${2:-${TMPDIR:-/tmp}/narwhal-clients}
say() { printf '%s\n' "$*" >&2; }
skip() {
  say "clients skipped: $*"
  echo "0 passed, 0 failed"
  exit 0
}

command -v npm >/dev/null 2>&1 || skip "npm is not installed"
mkdir -p "$work"
cp "$here"/*.mjs "$here/package.json" "$work"
cd "$work"
npm install --fetch-retries=1 --fetch-timeout=20000 --no-audit --no-fund --loglevel=error >npm.log 2>&1 ||
  skip "npm could not install them; see $work/npm.log"

"$narwhal" serve --port 0 --ctx 16384 --sessions 4 --alias minnow >serve.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
base=""
for _ in $(seq 100); do
  base=$(sed -n 's/.* at \(http:[^ ]*\)\/v1$/\1/p' serve.log)
  [ -z "$base" ] || break
  sleep 0.1
done
[ -n "$base" ] || { cat serve.log >&2; exit 1; }

passed=0
failed=0
for library in openai anthropic ai; do
  node "$library.mjs" "$base" >"$library.log" 2>&1 || true
  sed -n '/^FAILED/,$p' "$library.log" >&2
  last=$(tail -n 1 "$library.log")
  case $last in
    *" passed, "*) ;;
    *) last="0 passed, 1 failed" ;;
  esac
  say "$library: $last"
  passed=$((passed + ${last%% *}))
  last=${last#*, }
  failed=$((failed + ${last%% *}))
done
kill -0 $server || { say "the server died"; failed=$((failed + 1)); }
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
