"""Rows that the engine's presets keep of a prompt against those that kvpress' presses keep.

    kvpress_rows.py --model FILE.gguf --rows ROWS.json

ROWS.json is what the engine's command `retained --logits` writes with the presets of PAIRS. The
same token ids go through the same weights in transformers; each press scores the same keys, values
and attention weights, and keeps as many rows as the preset did. Exit status 1 if an overlap is
below its bound or the two models differ.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import kvpress
import torch
import twin
from kvpress.presses.base_press import BasePress


@dataclass
class Pair:
    """One of our presets and the press that does the same."""

    preset: str  # as --preset takes it; {n} stands for the rows to keep
    press: type
    settings: dict
    bound: float | None  # least overlap, mean over lanes; None: definitions differ
    note: str
    coarse: bool = False  # our record of a row keeps this rule's evidence as bfloat16
    newest: bool = False  # the press has nothing against dropping the newest row; we keep it

    def label(self, rows: int) -> str:
        return self.preset.format(n=rows)


PAIRS = [
    Pair(
        "StreamingLlm:capacity={n},sinks=4,window=1",
        kvpress.StreamingLLMPress,
        {"n_sink": 4},
        1.0,
        "same definition",
    ),
    Pair(
        "SnapKv:capacity={n},sinks=0,window=32,steps=32,pooled=5",
        kvpress.SnapKVPress,
        {"window_size": 32, "kernel_size": 5},
        0.995,
        "same definition; window of 32 queries",
    ),
    Pair(
        "SnapKv:capacity={n},sinks=0,window=64,steps=64,pooled=5",
        kvpress.SnapKVPress,
        {"window_size": 64, "kernel_size": 5},
        0.995,
        "same definition; window of 64 queries",
    ),
    Pair(
        "Tova:capacity={n},sinks=0,window=1",
        kvpress.TOVAPress,
        {},
        0.995,
        "same definition; one lane for all heads of a layer",
        coarse=True,
    ),
    Pair(
        "H2o:capacity={n},sinks=0,window=1,per-query=1",
        kvpress.ObservedAttentionPress,
        {},
        0.995,
        "same definition, but that the newest row stays",
        newest=True,
    ),
    Pair(
        "KeyNorm:capacity={n},sinks=0,window=1",
        kvpress.KnormPress,
        {},
        0.98,
        "same definition, but that the newest row stays",
        coarse=True,
        newest=True,
    ),
    Pair(
        "KeyDiff:capacity={n},sinks=0,window=1",
        kvpress.KeyDiffPress,
        {},
        0.995,
        "same definition, but that the newest row stays",
        newest=True,
    ),
    Pair(
        "ExpectedAttention:capacity={n},sinks=4,window=1",
        kvpress.ExpectedAttentionPress,
        {"n_sink": 4},
        None,
        "ours: recent queries after RoPE, diagonal covariance, mean of exponents",
        newest=True,
    ),
]


class Witness(BasePress):
    """Asks presses, in one pass through the model, which rows they would keep; drops none."""

    def __init__(self, presses: list[kvpress.ScorerPress], newest: list[bool]):
        self.presses = presses
        self.newest = newest  # by press: the newest row is to stay
        self.scores = [[] for _ in presses]  # by press and layer: [kv_heads, rows]
        self.kept = [[] for _ in presses]  # the same: positions, [kv_heads, rows kept]

    def compress(self, module, hidden_states, keys, values, attentions, kwargs):
        for i, press in enumerate(self.presses):
            arguments = (module, hidden_states, keys, values, attentions, kwargs)
            scores = press.score(*arguments)
            shorter, _ = press.compress(*arguments)
            kept = scores.topk(shorter.shape[2], dim=-1).indices
            chosen = keys.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, keys.shape[-1]))
            if not torch.equal(chosen, shorter):
                raise RuntimeError(f"{type(press).__name__} keeps other rows than its scores say")
            if self.newest[i]:
                scores[..., -1] = scores.max() + 1
                kept = scores.topk(shorter.shape[2], dim=-1).indices
            self.scores[i].append(scores[0])
            self.kept[i].append(kept[0])
        return keys, values


@dataclass
class Overlap:
    """Ours against theirs, by lane (theirs have one for each KV head)."""

    rows: int
    both: list[int]
    farthest: int  # rank distance to the edge of a row that only one keeps, by their scores

    @property
    def mean(self) -> float:
        return sum(self.both) / (len(self.both) * self.rows)

    @property
    def worst(self) -> float:
        return min(self.both) / self.rows


def compare(ours: dict, scores: list[torch.Tensor], kept: list[torch.Tensor]) -> Overlap:
    heads, rows = kept[0].shape
    shared = heads // ours["lanes_per_layer"]  # heads of one of our lanes
    both = []
    farthest = 0
    for layer, theirs in enumerate(kept):
        for head in range(heads):
            lane = layer * ours["lanes_per_layer"] + head // shared
            mine = set(ours["exact_rows"][lane])
            if len(mine) != rows:
                raise RuntimeError(f"lane {lane} of {ours['label']} keeps {len(mine)} rows")
            other = set(theirs[head].tolist())
            both.append(len(mine & other))
            order = scores[layer][head].argsort(descending=True, stable=True)
            rank = torch.empty_like(order)
            rank[order] = torch.arange(len(order))
            for row in mine ^ other:
                place = int(rank[row])
                farthest = max(farthest, rows - place if row in other else place - rows + 1)
    return Overlap(rows, both, farthest)


def coarse_choice(scores: list[torch.Tensor], rows: int) -> list[torch.Tensor]:
    """What a press would keep if it knew its scores to 8 bits; of equal ones the older."""
    return [
        s.bfloat16().float().argsort(dim=-1, descending=True, stable=True)[:, :rows] for s in scores
    ]


def print_table(table: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=Path, help="what `retained --logits` wrote")
    parser.add_argument("--presets", type=int, metavar="N", help="print --preset for N rows, stop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    o = parser.parse_args()
    if o.presets:
        print(";".join(pair.label(o.presets) for pair in PAIRS))
        return 0
    if o.model is None or o.rows is None:
        parser.error("--model and --rows are needed")
    torch.set_num_threads(o.threads)
    ours = {entry["label"]: entry for entry in json.loads(o.rows.read_text())}
    first = next(iter(ours.values()))
    tokens = first["token_ids"]
    rows = int(first["knob_capacity"])
    missing = [pair.label(rows) for pair in PAIRS if pair.label(rows) not in ours]
    if missing:
        parser.error(f"{o.rows} has no rows of {missing[0]}")

    ratio = 1 - (rows + 0.5) / len(tokens)  # half a row: the product is rounded down
    witness = Witness(
        [pair.press(compression_ratio=ratio, **pair.settings) for pair in PAIRS],
        [pair.newest for pair in PAIRS],
    )
    model = twin.load(o.model)
    with torch.no_grad(), witness(model):
        logits = model(torch.tensor([tokens])).logits[0, -1]
    gap = max(
        float((torch.tensor(entry["logits"]) - logits).abs().max()) for entry in ours.values()
    )
    spread = float(logits.std())
    print(
        f"{len(tokens)} tokens, {rows} rows kept by each lane; largest difference of a logit "
        f"{gap:.2g} (their standard deviation is {spread:.2g})\n"
    )
    good = gap < 0.01 * spread
    if not good:
        print("the two models differ: their rows cannot be compared\n")

    table = [
        [
            "preset",
            "press",
            "both",
            "one only",
            "overlap",
            "worst lane",
            "farthest",
            "at 8 bits",
            "bound",
            "note",
        ]
    ]
    figures = []
    for i, pair in enumerate(PAIRS):
        label = pair.label(rows)
        overlap = compare(ours[label], witness.scores[i], witness.kept[i])
        coarse = None
        if pair.coarse:
            choice = coarse_choice(witness.scores[i], rows)
            coarse = compare(ours[label], witness.scores[i], choice).mean
        passes = pair.bound is None or overlap.mean >= pair.bound
        good = good and passes
        verdict = "-" if pair.bound is None else f"{pair.bound} {'ok' if passes else 'FAILS'}"
        table.append(
            [
                pair.preset.split(":")[0],
                pair.press.__name__,
                f"{overlap.mean * rows:.1f}",
                f"{(1 - overlap.mean) * rows:.1f}",
                f"{overlap.mean:.4f}",
                f"{overlap.worst:.4f}",
                str(overlap.farthest),
                "-" if coarse is None else f"{coarse:.4f}",
                verdict,
                pair.note,
            ]
        )
        figures.append(
            {
                "preset": label,
                "press": pair.press.__name__,
                "rows": rows,
                "tokens": len(tokens),
                "overlap": overlap.mean,
                "overlap_worst_lane": overlap.worst,
                "farthest_rank": overlap.farthest,
                "overlap_at_8_bits": coarse,
                "bound": pair.bound,
                "passes": passes,
                "logit_gap": gap,
            }
        )
    print_table(table)
    print(
        "\nboth, one only: rows, mean over lanes. farthest: by how many ranks of the press' scores a "
        "row that\nonly one of them keeps is away from the edge between kept and dropped. at 8 bits: "
        "overlap if the press\nknows its scores as bfloat16, which is what our records keep of a "
        "row's last evidence."
    )
    if o.json:
        o.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
