#!/bin/sh
# oracle.sh GRAMMAR_ORACLE WORKDIR: grammars against the JSON Schema Test Suite and ajv, from npm.
# Without node or the registry it says so and passes, having tested nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
work=$2

skip() {
  printf 'grammar oracle skipped: %s\n' "$*"
  printf '0 passed, 0 failed\n'
  exit 0
}

command -v node >/dev/null 2>&1 || skip "node is not installed"
command -v npm >/dev/null 2>&1 || skip "npm is not installed"
mkdir -p "$work"
cd "$work"
if [ ! -d node_modules/ajv-formats ]; then
  printf '{"private": true}\n' >package.json
  npm install --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-timeout=20000 \
    ajv@8.17.1 ajv-formats@3.0.1 json-schema-test-suite@0.0.10 >npm.log 2>&1 ||
    skip "npm could not install ajv and json-schema-test-suite ($work/npm.log)"
fi
exec node "$here/oracle.mjs" "$program"
