#!/usr/bin/env bash
# Decode speed by depth: our caches and llama.cpp on the same model, one thread, in turn.
#   benchmarks/decode.sh                       three rounds at depths 0 to 8,000 (about half an hour)
#   benchmarks/decode.sh --rounds 1 --depths 0,1024
# Options: --rounds N, --depths LIST, --tokens N, --preset LIST (as of `examples/run.sh bench`),
# --text FILE, --json FILE (all figures). A round is one run of our bench, in which the caches take
# turns token by token, and one of llama-bench (flash attention, 16-bit keys and values); every other
# round begins with llama-bench. The table shows medians over rounds.
set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

fail() { printf 'decode.sh: %s\n' "$*" >&2; exit 1; }

rounds=3
depths=0,1024,2048,4096,8000
tokens=32
preset="KvFreeze;UniformQuantised8;UniformQuantised4"
text=
json=
while (($# > 0)); do
  case $1 in
    --rounds | --depths | --tokens | --preset | --text | --json)
      (($# > 1)) || fail "$1 wants a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    *) fail "unknown option '$1'; --help lists them" ;;
  esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds: '$rounds' is not a whole number above 0"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$repository/examples/run.sh" --list-presets >/dev/null  # builds
"$repository/benchmarks/peer/llama_bench.sh" --build >/dev/null

ours() {
  printf 'decode.sh: round %s of %s, ours\n' "$1" "$rounds" >&2
  "$repository/examples/run.sh" bench --depths "$depths" --tokens "$tokens" --preset "$preset" \
    ${text:+--text "$text"} --json "$work/ours.$1.json" >"$work/ours.$1.txt"
}

peer() {
  printf 'decode.sh: round %s of %s, llama.cpp\n' "$1" "$rounds" >&2
  "$repository/benchmarks/peer/llama_bench.sh" --depths "$depths" --tokens "$tokens" \
    --json "$work/peer.$1.json" >/dev/null
}

for ((round = 1; round <= rounds; ++round)); do
  if ((round % 2 == 1)); then
    ours "$round"
    peer "$round"
  else
    peer "$round"
    ours "$round"
  fi
done

python3 - "$work" "$rounds" "$json" <<'PYTHON'
import json, statistics, sys

work, rounds, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ours = [json.load(open(f"{work}/ours.{i + 1}.json")) for i in range(rounds)]
ours = [r if isinstance(r, list) else [r] for r in ours]
peers = [{row["n_depth"]: row["avg_ts"] for row in json.load(open(f"{work}/peer.{i + 1}.json"))}
         for i in range(rounds)]
depths = ours[0][0]["depths"]
median = statistics.median
memory = max(r[0]["memory_bytes_per_second"] for r in ours)


def of(cache, key, at):
    return median(r[cache][key][at] for r in ours)


rows = []
for at, depth in enumerate(depths):
    peer = median(p[depth] for p in peers)
    peer_first = median(p[depths[0]] for p in peers)
    rows.append({"depth": depth, "cache": "llama.cpp", "tokens_per_second": peer,
                 "ratio_to_first_depth": peer / peer_first, "ratio_to_peer": 1.0})
    for cache, settings in enumerate(ours[0]):
        speed = of(cache, "decode_tokens_per_second", at)
        rows.append({
            "depth": depth, "cache": settings["label"], "tokens_per_second": speed,
            "ratio_to_peer": speed / peer,
            "ratio_to_plain": median(r[cache]["ratio_to_plain"][at] for r in ours),
            "ratio_to_first_depth": median(r[cache]["ratio_to_first_depth"][at] for r in ours),
            "attend_milliseconds": of(cache, "attend_milliseconds_per_token", at),
            "advance_milliseconds": of(cache, "advance_milliseconds_per_token", at),
            "advance_share": of(cache, "advance_share", at),
            "touched_bytes": of(cache, "touched_bytes_per_token", at),
            "share_of_memory_bandwidth": of(cache, "touched_bytes_per_second", at) / memory,
            "resident_fraction": of(cache, "resident_fraction_mean", at)})

columns = [("tok/s", "tokens_per_second", "{:.1f}", 1), ("of llama.cpp", "ratio_to_peer", "{:.2f}", 1),
           ("of plain", "ratio_to_plain", "{:.3f}", 1),
           (f"of depth {depths[0]}", "ratio_to_first_depth", "{:.3f}", 1),
           ("attend ms", "attend_milliseconds", "{:.2f}", 1),
           ("advance ms", "advance_milliseconds", "{:.3f}", 1),
           ("share %", "advance_share", "{:.1f}", 100), ("MB read", "touched_bytes", "{:.1f}", 1e-6),
           ("of memory %", "share_of_memory_bandwidth", "{:.0f}", 100),
           ("resident %", "resident_fraction", "{:.1f}", 100)]
table = [["depth", "cache"] + [c[0] for c in columns]]
for row in rows:
    table.append([str(row["depth"]), row["cache"]] +
                 [form.format(row[key] * factor) if key in row else "-"
                  for _, key, form, factor in columns])
widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
print(f"medians of {rounds} round{'s' if rounds > 1 else ''}, one thread; "
      f"memory is read at {memory / 1e9:.1f} GB/s\n")
last = None
for line in table:
    first = line[0] if line[0] != last else ""
    last = line[0]
    print(f"{first:<{widths[0]}}  {line[1]:<{widths[1]}}  " +
          "  ".join(f"{cell:>{w}}" for cell, w in zip(line[2:], widths[2:])))
if out:
    json.dump({"rounds": rounds, "memory_bytes_per_second": memory, "rows": rows}, open(out, "w"),
              indent=2)
PYTHON
