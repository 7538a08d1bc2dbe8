#!/usr/bin/env bash
# Seconds that a compiler spends on the umbrella header, and on a ten-line program that uses it
# (the cache instantiated, -O2): medians of 5, compilers in turn.
#   benchmarks/compile_time.sh [compiler...]          default: g++ and the newest clang++ found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compilers=("$@")
if ((${#compilers[@]} == 0)); then
  compilers=(g++)
  for clang in clang++-{21,20,19} clang++; do
    if command -v "$clang" >/dev/null; then
      compilers+=("$clang")
      break
    fi
  done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/nothing.cpp"
echo '#include <kvfreeze/kvfreeze.hpp>' >"$work/umbrella.cpp"
cat >"$work/program.cpp" <<'PROGRAM'
#include <kvfreeze/kvfreeze.hpp>

int main() {
  kvfreeze::KvFreezeCache cache(kvfreeze::Shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64},
                                kvfreeze::Limits{.max_tokens = 256});
  auto const sequence = cache.open();
  float q[256]{}, k[128]{}, v[128]{}, out[256];
  for (int layer = 0; layer < 2; ++layer) cache.attend(sequence, layer, q, k, v, out);
  return cache.advance(sequence).rows.exact == 0;
}
PROGRAM

seconds() { # of one compilation
  local start=$EPOCHREALTIME
  "$@"
  local stop=$EPOCHREALTIME
  awk -v a="${start/,/.}" -v b="${stop/,/.}" 'BEGIN { printf "%.3f\n", b - a }'
}

for ((round = 0; round < 5; ++round)); do
  for compiler in "${compilers[@]}"; do
    for source in nothing umbrella program; do
      seconds "$compiler" -std=c++20 -O2 -Iinclude -c "$work/$source.cpp" -o "$work/out.o" \
        >>"$work/$compiler.$source"
    done
  done
done

median() { sort -n "$work/$1" | sed -n 3p; }
printf '%-12s %10s %14s %22s\n' compiler "nothing s" "umbrella s" "ten-line program s"
for compiler in "${compilers[@]}"; do
  printf '%-12s %10s %14s %22s\n' "$compiler" "$(median "$compiler.nothing")" \
    "$(median "$compiler.umbrella")" "$(median "$compiler.program")"
done
