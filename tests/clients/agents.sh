#!/bin/sh
# tests/clients/agents.sh NARWHAL [WORK_DIR]: coding agents of pinned versions, each in a fresh HOME,
# against `NARWHAL serve` with the embedded model on loopback (about 1.4 GB from the npm registry,
# removed afterwards). Each must make one tool round trip: call a tool, run it, send its result back
# and end its turn without an error.
#
# pi's prompt is short enough for Minnow, so its call is sampled. The prompts of the others are not:
# there the scripted decoder (narwhal serve --script) forces the tokens of a call and of an answer
# through the model, the parser and the API.
#
# An agent whose version the registry lacks is skipped with a message; a run that reached none fails.
# Prints "N passed, M failed".
set -eu
narwhal=$1
work=${2:-${TMPDIR:-/tmp}/narwhal-agents}
servers=""
say() { printf '%s\n' "$*" >&2; }
mkdir -p "$work"
cd "$work"
work=$PWD
finish() {
  # shellcheck disable=SC2086
  [ -z "$servers" ] || kill $servers 2>/dev/null || true
  rm -rf "$work/node_modules" "$work/npm-cache" "$work/package-lock.json"
}
trap finish EXIT
trap 'exit 130' INT TERM

rm -rf home files trace
mkdir -p home/codex/.codex home/claude home/opencode/.config/opencode home/pi/.pi/agent files \
  trace/sampled trace/scripted
fact="Oslo is cloudy, 7 degrees."
echo "$fact" >files/weather.txt
echo '{"private": true}' >package.json

# install NAME PACKAGE@VERSION
install() {
  command -v npm >/dev/null 2>&1 || { say "$1 skipped: npm is not installed"; return 1; }
  npm install --cache "$work/npm-cache" --no-audit --no-fund --loglevel=error "$2" \
    >"npm-$1.log" 2>&1 && return 0
  say "$1 skipped: npm could not install $2; see $work/npm-$1.log"
  return 1
}

# serve NAME OPTION...: starts a server and sets url.
serve() {
  name=$1
  shift
  "$narwhal" serve --port 0 --ctx 65536 --sessions 3 --alias minnow --trace "trace/$name" "$@" \
    >"serve-$name.log" 2>&1 &
  servers="$servers $!"
  url=""
  for _ in $(seq 100); do
    url=$(sed -n 's/.* at \(http:[^ ]*\)\/v1$/\1/p' "serve-$name.log")
    [ -z "$url" ] || return 0
    sleep 0.1
  done
  cat "serve-$name.log" >&2
  exit 1
}

# agent NAME COMMAND...: runs it in its HOME; its output goes to NAME.log.
agent() {
  name=$1
  shift
  (cd files && env -i HOME="$work/home/$name" PATH="$work/node_modules/.bin:$PATH" \
    timeout 900 env "$@" >>"$work/$name.log" 2>&1 </dev/null)
}
# came_back TRACE NUMBER TEXT: a prompt after the NUMBER first holds TEXT in the result of a tool.
came_back() {
  for turn in $(find "trace/$1" -name 'turn-*.txt' | sort | tail -n "+$(($2 + 1))"); do
    sed -n '/^== prompt/,/^== written/p' "$turn" | tr '\n' ' ' |
      grep -q "<tool_result>.*$3" && return 0
  done
  return 1
}
n_turns() { find "trace/$1" -name 'turn-*.txt' | wc -l; }

passed=0
failed=0
verdict() {
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
    say "$1: passed ($3)"
  else
    failed=$((failed + 1))
    say "$1: failed; see $work/$1.log and the traces beside it"
  fi
}

# call TOOL PARAMETER VALUE: a rule that answers the user with a call.
call() {
  printf '{"tool": "%s", "after": "user", "write": "I will read it.\\n\\n<｜DSML｜tool_calls>\\n' "$1"
  printf '<｜DSML｜invoke name=\\"%s\\">\\n<｜DSML｜parameter name=\\"%s\\" string=\\"true\\">' "$1" "$2"
  printf '%s</｜DSML｜parameter>\\n</｜DSML｜invoke>\\n</｜DSML｜tool_calls>"},\n' "$3"
}
answer="The file was read."
{
  printf '['
  call exec_command cmd "cat weather.txt"           # Codex
  call Read file_path "$work/files/weather.txt"     # Claude Code
  call read filePath "$work/files/weather.txt"      # opencode
  printf '{"after": "tool", "write": "%s"},\n{"after": "user", "write": "A title"}]\n' "$answer"
} >script.json

# scripted NAME COMMAND...
scripted() {
  before=$(n_turns scripted)
  status=0
  : >"$1.log"
  agent "$@" || status=$?
  grep -q "$answer" "$1.log" || status=1
  came_back scripted "$before" "$fact" || status=1
  verdict "$1" "$status" "scripted decoder"
}

if install pi @earendil-works/pi-coding-agent@0.74.2; then
  serve sampled --temp 0
  cat >home/pi/.pi/agent/models.json <<END
{"providers": {"local": {"baseUrl": "$url/v1", "api": "openai-completions", "apiKey": "any",
 "models": [{"id": "minnow", "name": "minnow", "contextWindow": 65536, "maxTokens": 300,
 "reasoning": true}]}}}
END
  # The prompt holds today's date and this folder, so what Minnow makes of a question varies.
  status=1
  : >pi.log
  for question in "Run pwd" "Run the command pwd" "Run ls"; do
    before=$(n_turns sampled)
    agent pi pi -p --provider local --model minnow "$question" || break
    came_back sampled "$before" "\($work/files\|weather.txt\)" || continue
    status=0
    break
  done
  verdict pi "$status" "sampled tokens"
fi

serve scripted --script script.json
if install codex @openai/codex@0.169.0; then
  cat >home/codex/.codex/config.toml <<END
model = "minnow"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "$url/v1"
wire_api = "responses"
END
  scripted codex codex exec --skip-git-repo-check -s read-only "Read weather.txt"
fi
if install opencode opencode-ai@1.18.33; then
  cat >home/opencode/.config/opencode/opencode.json <<END
{"model": "local/minnow", "provider": {"local": {"npm": "@ai-sdk/openai-compatible", "name": "local",
 "options": {"baseURL": "$url/v1"},
 "models": {"minnow": {"name": "minnow", "limit": {"context": 65536, "output": 300}}}}}}
END
  scripted opencode opencode run "Read weather.txt"
fi
if install claude @anthropic-ai/claude-code@2.1.197; then
  scripted claude ANTHROPIC_BASE_URL="$url" ANTHROPIC_AUTH_TOKEN=any ANTHROPIC_MODEL=minnow \
    ANTHROPIC_DEFAULT_HAIKU_MODEL=minnow CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \
    CLAUDE_CODE_MAX_OUTPUT_TOKENS=300 claude -p "Read weather.txt"
fi

if [ $((passed + failed)) -eq 0 ]; then
  say "no agent was reached"
  failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
