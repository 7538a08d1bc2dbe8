#!/usr/bin/env bash
# Time and bytes per token from 1,024 to 65,536 rows, for Plain, UniformQuantised4 and KvFreeze, on
# keys, values and queries of the example engine's model. What is longer than the recording is
# extended: growth.cpp says how.
#   benchmarks/growth/run.sh --text FILE [--offset BYTES] [growth's options]
# Growth's options: --rows LIST, --layers N (fewer need less memory; all 30 need 6 GB at 65,536 rows),
# --steps N, --resident F (a cap for KvFreeze, of a 16-bit cache), --json FILE.
# The recording (200 MB) is kept in KVFREEZE_CACHE, as in examples/run.sh, and made once per text.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${KVFREEZE_CACHE:-$repository/build/example}

fail() { printf 'growth: %s\n' "$*" >&2; exit 1; }

text=
offset=0
options=()
while (($# > 0)); do
  case $1 in
    --text | --offset)
      (($# > 1)) || fail "$1 wants a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    *)
      options+=("$1")
      shift
      ;;
  esac
done
[[ -n $text ]] || fail "--text FILE is missing: a text of 8,192 tokens or more"
[[ -r $text ]] || fail "cannot read '$text'"

mkdir -p "$cache/growth"
name=$(printf '%s %s' "$(cksum <"$text")" "$offset" | cksum | cut -d ' ' -f 1)
recording=$cache/growth/$name.kv
if [[ ! -e $recording ]]; then
  "$repository/examples/run.sh" record --text "$text" --offset "$offset" --out "$recording.part"
  mv "$recording.part" "$recording"
fi
g++ -std=c++20 -O3 -march=native -I"$repository/include" "$repository/benchmarks/growth/growth.cpp" \
  -o "$cache/growth/growth"
exec "$cache/growth/growth" "$recording" "${options[@]}"
