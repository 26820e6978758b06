# shellcheck shell=sh disable=SC2034
# Sourced by ./run, ./test and .ci/run from the repository root: what is missing is installed, and
# the build is configured and made. Nothing here prints to standard output.

say() { printf '%s\n' "$*" >&2; }
die() { say "narwhal: $*"; exit 1; }

run_packages="build-essential cmake ninja-build pkg-config libfmt-dev nlohmann-json3-dev \
libcli11-dev libedit-dev libutf8proc-dev libboost1.81-dev libsqlite3-dev libxxhash-dev"
test_packages="$run_packages libgtest-dev libbenchmark-dev"
clang_packages="$test_packages clang clang-tidy clang-format libclang-rt-14-dev"

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    die "root is needed to install packages; run as root or install sudo, or install: $missing"
  fi
}

install_apt() {
  missing=""
  installed=$(dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    sed -n 's/ installed$//p')
  for package in "$@"; do
    printf '%s\n' "$installed" | grep -qx "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "installing:$missing"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update --quiet >&2 || die "apt-get update failed; check the network"
  # shellcheck disable=SC2086
  as_root apt-get install --yes --quiet --no-install-recommends $missing >&2 ||
    die "apt-get could not install:$missing"
}

install_brew() {
  missing=""
  for package in cmake ninja pkg-config fmt nlohmann-json cli11 libedit utf8proc boost sqlite \
    xxhash googletest google-benchmark; do
    brew list --versions "$package" >/dev/null 2>&1 || missing="$missing $package"
  done
  # Homebrew keeps its libedit out of the way of the system's.
  PKG_CONFIG_PATH="$(brew --prefix)/opt/libedit/lib/pkgconfig:${PKG_CONFIG_PATH:-}"
  export PKG_CONFIG_PATH
  [ -n "$missing" ] || return 0
  say "installing:$missing"
  # shellcheck disable=SC2086
  brew install --quiet $missing >&2 || die "brew could not install:$missing"
}

# install_packages PACKAGE...: Debian names; Homebrew has its own list.
install_packages() {
  if command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1; then
    install_apt "$@"
  elif command -v brew >/dev/null 2>&1; then
    install_brew
  else
    say "narwhal: neither apt-get nor brew found; going on with what is installed"
  fi
}

# build_preset PRESET DEVELOPER(ON|OFF) [TARGET...]: configures where needed and builds.
build_preset() {
  preset=$1
  developer=$2
  shift 2
  [ $# -gt 0 ] || set -- all
  folder="build/$preset"
  mkdir -p "$folder"
  launcher=""
  if command -v ccache >/dev/null 2>&1; then launcher="-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"; fi
  if [ ! -f "$folder/build.ninja" ] ||
    ! grep -q "^NARWHAL_DEVELOPER:BOOL=$developer\$" "$folder/CMakeCache.txt"; then
    cmake --preset "$preset" "-DNARWHAL_DEVELOPER=$developer" $launcher \
      >"$folder/configure.log" 2>&1 || { cat "$folder/configure.log" >&2; die "configuring failed"; }
  fi
  {
    status=0
    cmake --build "$folder" --target "$@" 2>&1 || status=$?
    printf '%s' "$status" >"$folder/build.status"
  } | tee "$folder/build.log" | show_progress "$preset"
  if [ "$(cat "$folder/build.status")" -ne 0 ]; then
    cat "$folder/build.log" >&2
    die "the build failed"
  fi
}

# show_progress NAME: the builder's output in; one moving line on a terminal, else one line in all,
# and nothing when there is nothing to do.
show_progress() {
  shown=""
  while IFS= read -r line; do
    case $line in
      \[*/*\]*Building* | \[*/*\]*Linking*) ;;
      *) continue ;;
    esac
    if [ -t 2 ]; then
      printf '\r\033[K%.75s' "$line" >&2
    elif [ -z "$shown" ]; then
      say "building ($1)"
    fi
    shown=1
  done
  if [ -t 2 ] && [ -n "$shown" ]; then printf '\r\033[K' >&2; fi
}
