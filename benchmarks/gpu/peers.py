#!/usr/bin/env python3
"""Decode attention of one layer of an 8B model by other libraries, where they are installed: torch's
scaled_dot_product_attention over dense rows, FlashInfer's paged decode. The shapes of step.cu, whose
"dense us" divided by its layers is the same work. Leaves with 77 without torch or a device.

  peers.py [--small] [--out FILE]      --small: sizes for a trial
"""

import argparse
import json
import statistics
import sys

QUERY_HEADS, KV_HEADS, HEAD_DIM, PAGE = 32, 8, 128, 16


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


try:
    import torch
except ImportError:
    skip("no torch")
if not torch.cuda.is_available():
    skip("torch finds no CUDA device")
try:
    import flashinfer
except ImportError:
    flashinfer = None


def median_us(call, rounds):
    """Of one call. Before each the L2 is written over."""
    flush = torch.empty(1 << 28, dtype=torch.int8, device="cuda")
    times = []
    for _ in range(rounds + 3):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(1000.0 * begin.elapsed_time(end))
    return statistics.median(times[3:])  # the first warm up


def sdpa(batch, context):
    def random(heads, rows):
        return torch.randn(batch, heads, rows, HEAD_DIM, dtype=torch.float16, device="cuda")

    q, k, v = random(QUERY_HEADS, 1), random(KV_HEADS, context), random(KV_HEADS, context)
    attention = torch.nn.functional.scaled_dot_product_attention
    return lambda: attention(q, k, v, enable_gqa=True)


def paged(batch, context):
    pages = batch * context // PAGE
    half = {"dtype": torch.float16, "device": "cuda"}
    index = {"dtype": torch.int32, "device": "cuda"}
    cache = torch.randn(pages, 2, PAGE, KV_HEADS, HEAD_DIM, **half)
    q = torch.randn(batch, QUERY_HEADS, HEAD_DIM, **half)
    workspace = torch.empty(128 << 20, dtype=torch.uint8, device="cuda")
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD")
    wrapper.plan(
        torch.arange(0, pages + 1, context // PAGE, **index),
        torch.randperm(pages, device="cuda").to(torch.int32),
        torch.full((batch,), PAGE, **index),
        QUERY_HEADS,
        KV_HEADS,
        HEAD_DIM,
        PAGE,
        data_type=torch.float16,
    )
    return lambda: wrapper.run(q, cache)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    batches, contexts = ((1, 2), (64, 128)) if options.small else ((1, 4, 16), (8192, 32768, 131072))
    peers = {"torch sdpa": sdpa}
    if flashinfer is None:
        print("left out: no flashinfer")
    else:
        peers["flashinfer paged"] = paged
    results = []
    for name, make in peers.items():
        for batch in batches:
            for context in contexts:
                try:
                    us = median_us(make(batch, context), 3 if options.small else 21)
                except torch.cuda.OutOfMemoryError as error:
                    print(f"left out: {name}, batch {batch}, context {context}: {error}")
                    continue
                bytes_read = batch * context * 2 * KV_HEADS * HEAD_DIM * 2
                rate = bytes_read / (1000.0 * us)
                print(f"{name:18} {batch:3} {context:7} {us:10.1f} us {rate:8.1f} GB/s", flush=True)
                results.append({"kernel": name, "batch": batch, "context": context, "us": us,
                                "bytes": bytes_read})
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump({"device": torch.cuda.get_device_name(), "small": options.small,
                       "results": results}, file, indent=2)


main()
