#!/usr/bin/env bash
# Installs what the tests need, builds them and runs them all. Options go to ctest:
#   tests/run.sh                  everything
#   tests/run.sh -L unit          one label
#   tests/run.sh -R mass -V       what matches, with output
# KVFREEZE_TEST_PRESET=asan|tsan|clang19 chooses another build, KVFREEZE_JOBS the parallel jobs.
# Where nvcc is, GPU tests are built too; without a device they are skipped, unless
# KVFREEZE_CUDA_LAUNCHERS says what to run them under: name=command;...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,8s/^# \{0,1\}//p' tests/run.sh
  exit 0
fi

preset=${KVFREEZE_TEST_PRESET:-ci}
compiler=g++
case $preset in
  ci | tsan) ;;
  asan | clang19) compiler=clang++-19 ;;
  *)
    echo "tests/run.sh: KVFREEZE_TEST_PRESET is '$preset', not asan, tsan or clang19" >&2
    exit 2
    ;;
esac

# --- what is needed, and the package that has it ---------------------------------------------------
missing=()
need_tool() { command -v "$1" >/dev/null || missing+=("$2"); }
need_file() { [[ -e $1 || -e /usr/local/${1#/usr/} ]] || missing+=("$2"); }
need_tool "$compiler" "${compiler/clang++/clang}"
[[ $preset != asan ]] || need_file /usr/lib/llvm-19/lib/clang/19/lib/linux libclang-rt-19-dev
need_tool cmake cmake
need_tool ninja ninja-build
need_tool git git
need_file /usr/include/catch2/catch.hpp catch2
need_file /usr/include/range/v3/version.hpp librange-v3-dev
need_file /usr/include/benchmark/benchmark.h libbenchmark-dev
if ((${#missing[@]})); then
  become_root=()
  if ((EUID != 0)); then
    become_root=(sudo)
    [[ -t 0 ]] || become_root=(sudo -n)
  fi
  if ! command -v apt-get >/dev/null || { ((EUID != 0)) && ! command -v sudo >/dev/null; }; then
    echo "tests/run.sh: missing: ${missing[*]} (to install them I need apt-get, and root or sudo)" >&2
    exit 1
  fi
  echo "tests/run.sh: installing ${missing[*]}"
  if [[ ! ${KVFREEZE_APT_UPDATED:-} ]]; then
    "${become_root[@]}" apt-get update -qq
  fi
  "${become_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# --- build -----------------------------------------------------------------------------------------
export CXX=${CXX:-$compiler}
# A job of this suite takes up to 1.5 GB.
jobs=${KVFREEZE_JOBS:-}
if [[ ! $jobs ]]; then
  jobs=$(nproc)
  free_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  by_memory=$((free_kb / 1500000))
  ((by_memory >= jobs)) || jobs=$by_memory
  ((jobs >= 1)) || jobs=1
fi

settings=()
if command -v ccache >/dev/null; then
  settings+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
if [[ ! ${CI:-} ]]; then
  settings+=(-DKVFREEZE_WERROR=OFF) # a newer compiler may warn where ours do not
fi

if [[ ${KVFREEZE_CUDA_LAUNCHERS:-} ]]; then
  settings+=("-DKVFREEZE_CUDA_LAUNCHERS=$KVFREEZE_CUDA_LAUNCHERS")
fi

# ThreadSanitizer wants the addresses where it knows them.
launch=()
if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then
  launch=(setarch -R)
fi

if ! log=$(cmake --preset "$preset" "${settings[@]}" 2>&1); then
  echo "$log" >&2
  exit 1
fi
"${launch[@]}" cmake --build "build/$preset" --parallel "$jobs"

# --- run -------------------------------------------------------------------------------------------
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"${launch[@]}" ctest --test-dir "build/$preset" --parallel "$jobs" --output-on-failure \
  --no-tests=error "$@" | tee "$log" || status=$?
grep -E '^[0-9]+% tests passed' "$log" || true
exit "$status"
