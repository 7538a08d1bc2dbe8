#!/usr/bin/env bash
# Builds GPU tests and benchmarks for the device that is here (sm_90 if none is), runs the tests, runs
# them again under compute-sanitizer where it is installed, then the benchmarks. What finds no device
# is skipped.
#   benchmarks/gpu.sh --out DIR          everything; logs and JSON files go to DIR
#   benchmarks/gpu.sh --out DIR --quick  no compute-sanitizer
#   benchmarks/gpu.sh --out DIR --launcher "CMD ARGS" --small
#                                        under a program that stands in for a device, small sizes
# Needs nvcc, CMake, Ninja and Catch2 2.13. KVFREEZE_JOBS: compilers at a time.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
fail() { printf 'gpu.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'gpu.sh: %s\n' "$*" >&2; }

out=
launcher=()
small=()
sanitize=1
while (($# > 0)); do
  case $1 in
    --out)
      (($# > 1)) || fail "--out wants a folder"
      out=$2
      shift 2
      ;;
    --launcher)
      (($# > 1)) || fail "--launcher wants a command"
      read -r -a launcher <<<"$2"
      shift 2
      ;;
    --small) small=(--small); shift ;;
    --quick) sanitize=0; shift ;;
    -h | --help)
      sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    *) fail "unknown option '$1'; --help lists them" ;;
  esac
done
[[ -n $out ]] || fail "--out DIR is missing"
for tool in nvcc cmake ninja; do
  command -v "$tool" >/dev/null || fail "missing: $tool"
done
mkdir -p "$out"
out=$(cd -- "$out" && pwd)

architecture=90
if capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1) &&
  [[ $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
  architecture=${capability/./}
  nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv \
    >"$out/device.csv"
fi
# Under a program that reads PTX, PTX of 8.0 is what it knows best.
((${#launcher[@]} == 0)) || architecture=80-virtual

build=$repository/build/gpu-$architecture
settings=(-DKVFREEZE_ENABLE_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$architecture"
  -DKVFREEZE_TEST_GROUPS=gpu -DKVFREEZE_BUILD_EXAMPLES=OFF -DCMAKE_BUILD_TYPE=Release)
if ((${#launcher[@]})); then
  settings+=("-DKVFREEZE_CUDA_LAUNCHERS=launcher=${launcher[*]}")
fi
say "building for $architecture"
cmake -S "$repository" -B "$build" -G Ninja "${settings[@]}" >"$out/configure.log" ||
  fail "cmake failed, see $out/configure.log"
cmake --build "$build" --parallel "${KVFREEZE_JOBS:-$(nproc)}" \
  --target kvfreeze_gpu_tests kvfreeze_gpu_benchmarks >"$out/build.log" ||
  fail "the build failed, see $out/build.log"

status=0
skipped=0

# A program's exit status: 77 is skipped, others fail. Where its output is: $3.
judge() {
  local what=$1 code=$2
  case $code in
    0) ;;
    77) say "$what skipped, see $3"; skipped=$((skipped + 1)) ;;
    *) say "$what failed with $code, see $3"; status=1 ;;
  esac
}

say "tests"
ctest --test-dir "$build" -L gpu --output-on-failure | tee "$out/tests.log" || status=1
if ((sanitize && ${#launcher[@]} == 0)) && command -v compute-sanitizer >/dev/null; then
  for program in "$build"/tests/gpu/kvfreeze_gpu_*; do
    [[ -x $program && ! -d $program ]] || continue
    target=${program##*/}
    for tool in memcheck racecheck; do
      say "$tool: $target"
      code=0
      KVFREEZE_SHORT_TESTS=1 timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 86 \
        "$program" >"$out/$tool.$target.log" 2>&1 || code=$?
      judge "$tool: $target" "$code" "$out/$tool.$target.log"
    done
  done
fi
for program in "$build"/benchmarks/kvfreeze_gpu_bench_*; do
  [[ -x $program && ! -d $program ]] || continue
  name=${program##*/kvfreeze_gpu_bench_}
  say "benchmark: $name"
  code=0
  "${launcher[@]}" "$program" "${small[@]}" --out "$out/$name.json" | tee "$out/$name.txt" || code=$?
  judge "benchmark: $name" "$code" "$out/$name.txt"
done
if ((${#launcher[@]} == 0)) && command -v python3 >/dev/null; then
  say "benchmark: other libraries"
  code=0
  python3 "$repository/benchmarks/gpu/peers.py" "${small[@]}" --out "$out/peers.json" |
    tee "$out/peers.txt" || code=$?
  judge "benchmark: other libraries" "$code" "$out/peers.txt"
fi
((skipped == 0)) || say "$skipped skipped"
exit "$status"
