#!/usr/bin/env bash
# What the compiler makes of the CUDA cache, as Markdown: seconds of processor time and bytes of an
# object file for a program with one cache, with heads of any size and with the model's known; then of
# every kernel of its step registers, spilled bytes, static shared memory, and instructions that
# load and store global memory, by width. No device is needed.
#   benchmarks/gpu_code.sh [ARCHITECTURE]             default: 90
# Needs nvcc and cuobjdump (of the CUDA Toolkit; KVFREEZE_CUOBJDUMP says where).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,7s/^# \{0,1\}//p' benchmarks/gpu_code.sh
  exit 0
fi
architecture=${1:-90}
cuobjdump=${KVFREEZE_CUOBJDUMP:-cuobjdump}
for tool in nvcc "$cuobjdump" c++filt; do
  command -v "$tool" >/dev/null || { echo "gpu_code.sh: missing: $tool" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

program() { # HEAD_DIM GROUP: a step with logits
  cat <<PROGRAM
#include <kvfreeze/gpu/presets.cuh>
using Cache = kvfreeze::gpu::presets::KvFreeze<kvfreeze::Half, $1, $2>;
void step(Cache& cache, kvfreeze::Sequence sequence, kvfreeze::gpu::Span<float const> q,
          kvfreeze::gpu::Span<float const> kv, kvfreeze::gpu::Span<float> out, cuda::stream_ref stream) {
  kvfreeze::Sequence const batch[] = {sequence};
  cache.begin_async(batch, stream);
  cache.attend_async<float>(0, q, kv, kv, out, stream);
  cache.advance_async<float>(q, stream);
}
Cache make(kvfreeze::Shape const& shape) { return Cache(shape); }
PROGRAM
}

compile() { # HEAD_DIM GROUP OPTION...: prints seconds of processor time
  program "$1" "$2" >"$work/$1.cu"
  local TIMEFORMAT='%U %S'
  { time nvcc -std=c++20 -O2 -Iinclude "${@:3}" -c "$work/$1.cu" -o "$work/$1.o" \
    >"$work/$1.log" 2>&1; } 2>"$work/time" || { cat "$work/$1.log" >&2; exit 1; }
  awk '{ printf "%.0f", $1 + $2 }' "$work/time"
}

sass=(--generate-code "arch=compute_$architecture,code=sm_$architecture")
ptx=(--generate-code "arch=compute_$architecture,code=compute_$architecture")
size() { awk -v b="$(stat -c %s "$1")" 'BEGIN { printf "%.2f", b / 1e6 }'; }

echo "| \`MaxHeadDim\`, \`MaxGroup\` | PTX: CPU s | MB | sm_$architecture: CPU s | MB |"
echo "|---:|---:|---:|---:|---:|"
for dim in 0 64 128; do
  group=$((dim > 0 ? 4 : 0))
  seconds=$(compile "$dim" "$group" "${ptx[@]}")
  bytes=$(size "$work/$dim.o")
  echo "| $dim, $group | $seconds | $bytes | $(compile "$dim" "$group" "${sass[@]}" -Xptxas -v) | $(size "$work/$dim.o") |"
done

# Of the last one: what ptxas says of each kernel, then what its instructions are.
awk '/Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
     /bytes stack frame/ { spilled[kernel] = $5 + $9 }
     /Used [0-9]+ registers/ {
       match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
       shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
       print kernel, registers, spilled[kernel], shared
     }' "$work/128.log" | sort >"$work/resources"
"$cuobjdump" -sass "$work/128.o" |
  awk '/Function :/ { kernel = $3 }
       $2 ~ /^(@!?U?P[0-9T]+)$/ { $2 = $3 }
       $2 ~ /^(LDG|LDGSTS|LD|STG|ST|LDL|STL)(\.|;|$)/ {
         name = $2; sub(/\..*/, "", name)
         bytes = $2 ~ /128/ ? 16 : $2 ~ /\.64/ ? 8 : $2 ~ /\.[US]8/ ? 1 : $2 ~ /\.[US]16/ ? 2 : 4
         kind = name ~ /L$/ ? "local" : (name ~ /^LD/ ? "load" : "store") (bytes >= 16 ? 16 : bytes >= 8 ? 8 : bytes == 4 ? 4 : 1)
         count[kernel " " kind]++; seen[kernel] = 1
       }
       END { for (k in seen) print k, count[k " load16"] + 0, count[k " load8"] + 0, count[k " load4"] + 0,
             count[k " load1"] + 0, count[k " store16"] + 0, count[k " store8"] + 0, count[k " store4"] + 0,
             count[k " store1"] + 0, count[k " local"] + 0 }' | sort >"$work/instructions"
echo
echo "| kernel | registers | spilled bytes | static shared bytes | loads of 16, 8, 4, less | stores of 16, 8, 4, less | local memory |"
echo "|---|---:|---:|---:|---:|---:|---:|"
join "$work/resources" "$work/instructions" | while read -r name registers spilled shared counts; do
  read -r -a n <<<"$counts"
  short=$(c++filt "$name" | sed -E 's/^void //; s/kvfreeze::gpu::detail:://; s/[<(].*//')
  echo "| \`$short\` | $registers | $spilled | $shared | ${n[0]}, ${n[1]}, ${n[2]}, ${n[3]} | ${n[4]}, ${n[5]}, ${n[6]}, ${n[7]} | ${n[8]} |"
done | sort -u
