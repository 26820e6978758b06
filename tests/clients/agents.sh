#!/bin/sh
# tests/clients/agents.sh NARWHAL [WORK_DIR]: coding agents, each in a fresh HOME, against
# `NARWHAL serve` with the embedded model (about 1.4 GB from the npm registry). An agent passes when
# its turn ends without an error of its own; pi, whose prompt the small model can follow, must also
# call a tool that it samples itself and send the result back.
# Prints "N passed, M failed".
set -eu
narwhal=$1
work=${2:-${TMPDIR:-/tmp}/narwhal-agents}
say() { printf '%s\n' "$*" >&2; }
skip() {
  say "agents skipped: $*"
  echo "0 passed, 0 failed"
  exit 0
}

command -v npm >/dev/null 2>&1 || skip "npm is not installed"
mkdir -p "$work"
cd "$work"
[ -f package.json ] || echo '{"private": true}' >package.json
npm install --no-audit --no-fund --loglevel=error @openai/codex@0.169.0 \
  @anthropic-ai/claude-code@2.1.197 opencode-ai@1.18.33 @earendil-works/pi-coding-agent@0.74.2 \
  >npm.log 2>&1 || skip "npm could not install them; see $work/npm.log"
rm -rf home files
mkdir -p home/codex/.codex home/claude home/opencode/.config/opencode home/pi/.pi/agent files
echo "Oslo is cloudy, 7 degrees." >files/weather.txt

"$narwhal" serve --port 0 --ctx 65536 --sessions 3 --alias minnow >serve.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
url=""
for _ in $(seq 100); do
  url=$(sed -n 's/.* at \(http:[^ ]*\)\/v1$/\1/p' serve.log)
  [ -z "$url" ] || break
  sleep 0.1
done
[ -n "$url" ] || { cat serve.log >&2; exit 1; }

cat >home/codex/.codex/config.toml <<END
model = "minnow"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "$url/v1"
wire_api = "responses"
END
cat >home/opencode/.config/opencode/opencode.json <<END
{"model": "local/minnow", "provider": {"local": {"npm": "@ai-sdk/openai-compatible", "name": "local",
 "options": {"baseURL": "$url/v1"},
 "models": {"minnow": {"name": "minnow", "limit": {"context": 65536, "output": 300}}}}}}
END
cat >home/pi/.pi/agent/models.json <<END
{"providers": {"local": {"baseUrl": "$url/v1", "api": "openai-completions", "apiKey": "any",
 "models": [{"id": "minnow", "name": "minnow", "contextWindow": 65536, "maxTokens": 300,
 "reasoning": true}]}}}
END

passed=0
failed=0
# agent NAME WANTED_IN_SERVER_LOG [VARIABLE=VALUE...] COMMAND...
agent() {
  name=$1
  wanted=$2
  shift 2
  before=$(wc -l <serve.log)
  status=0
  (cd files && env -i HOME="$work/home/$name" PATH="$work/node_modules/.bin:$PATH" \
    timeout 600 "$@" >"$work/$name.log" 2>&1 </dev/null) || status=$?
  if [ "$status" -eq 0 ] && tail -n "+$((before + 1))" serve.log | grep -q "$wanted"; then
    passed=$((passed + 1))
    say "$name: passed"
  else
    failed=$((failed + 1))
    say "$name: failed with $status; see $work/$name.log and $work/serve.log"
  fi
}

agent pi "tool calls" pi -p --provider local --model minnow "Read weather.txt"
agent codex " responses .* written" codex exec --skip-git-repo-check -s read-only "What is 4 + 5?"
agent opencode " chat .* written" opencode run "What is 4 + 5?"
agent claude " messages .* written" ANTHROPIC_BASE_URL="$url" ANTHROPIC_AUTH_TOKEN=any \
  ANTHROPIC_MODEL=minnow ANTHROPIC_DEFAULT_HAIKU_MODEL=minnow \
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_OUTPUT_TOKENS=300 \
  claude -p "What is 4 + 5?"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
