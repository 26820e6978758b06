#!/bin/sh
# Fails and names the places where a source file is not as clang-format would write it.
set -eu
cd "$(dirname "$0")/.."
git ls-files '*.cc' '*.mm' '*.h' | xargs clang-format --dry-run -Werror
