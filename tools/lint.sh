#!/bin/sh
# House rules a machine can see: file length, include direction between rooms, the environment.
set -eu
cd "$(dirname "$0")/.."
faults=0
fault() {
  printf '%s\n' "$*"
  faults=$((faults + 1))
}

for file in $(git ls-files '*.cc' '*.mm' '*.h' '*.S' '*.py' '*.sh' '*.cmake' 'run' 'test' '.ci/run'); do
  lines=$(wc -l <"$file")
  [ "$lines" -le 800 ] || fault "$file: $lines lines, at most 800; split it by concept"
done

# deps_of ROOM: the rooms that may be included from ROOM, as the DEPS in CMakeLists.txt give them.
deps_of() {
  sed -n "s/^narwhal_room($1 DEPS \\([a-z_ ]*\\).*/\\1/p" CMakeLists.txt
}
# Every room after ROOM in the closure of DEPS; CMake refuses cycles of what is linked.
closure() {
  todo="$1"
  seen=" "
  while [ -n "$todo" ]; do
    next=""
    for room in $todo; do
      case $seen in *" $room "*) continue ;; esac
      seen="$seen$room "
      next="$next $(deps_of "$room")"
    done
    todo=$(printf '%s' "$next" | tr -s ' ')
    [ "$todo" != " " ] || todo=""
  done
  printf '%s' "$seen"
}

rooms=$(sed -n 's/^narwhal_room(\([a-z_]*\).*/\1/p' CMakeLists.txt)
for room in $rooms; do
  allowed=$(closure "$room")
  for line in $(grep --recursive --only-matching --include='*.cc' --include='*.mm' --include='*.h' \
    '^#include "[a-z_]*/' "src/$room" 2>/dev/null | sed 's/#include "//; s/\/$//'); do
    file=${line%:*}
    used=${line##*:}
    case " narwhal $allowed " in
      *" $used "*) ;;
      *) fault "$file includes $used/: not among the rooms that $room may use ($allowed)" ;;
    esac
  done
done
for folder in src/*/; do
  room=$(basename "$folder")
  printf '%s\n' "$rooms" | grep -qx "$room" || fault "src/$room is no room of CMakeLists.txt"
done

for file in $(git ls-files 'src/*.cc' 'src/*.mm' 'src/*.h' 'include/*.h' | grep -v '^src/base/' |
  xargs grep --files-with-matches --word-regexp 'getenv' 2>/dev/null); do
  fault "$file reads the environment; only src/base/options.cc may"
done

[ "$faults" -eq 0 ] || { printf '%s faults\n' "$faults"; exit 1; }
