#!/usr/bin/env python3
"""end_to_end.py [--blocks-ms MS] REPORT...: where the steps of a run spent their time, medians after
the first two.

`server` holds its blocks, its codec and its copies from and to the device; `rest` is what is neither it
nor the client's head and codec: gRPC and waiting.  With steps of several micro-batches in flight the
parts run at once and `rest` may be negative.  MS: a step of the blocks alone; a step is then compared
with it and the client's own work (head and codec), as their sum and as the larger of the two.
"""
import argparse
import json
import statistics


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks-ms", type=float)
    parser.add_argument("reports", nargs="+")
    args = parser.parse_args()
    print("run, tokens a step, micro-batches, step ms, head, client codec, server, of it codec, rest, "
          "step / (server + own), blocks alone, step / (blocks + own), step / max(blocks, own)")
    for path in args.reports:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        steps = report["steps"][2:]

        def ms(value):
            return 1e3 * statistics.median(value(s) for s in steps)

        def own(s):
            return s["head_seconds"] + s["encode_seconds"] + s["decode_seconds"]

        step = ms(lambda s: s["seconds"])
        columns = [
            report["config"]["codec"], steps[0]["tokens"], steps[0]["micros"], f"{step:.1f}",
            f"{ms(lambda s: s['head_seconds']):.1f}",
            f"{ms(lambda s: s['encode_seconds'] + s['decode_seconds']):.1f}",
            f"{ms(lambda s: s['server_seconds']):.1f}",
            f"{ms(lambda s: s['server_codec_seconds']):.1f}",
            f"{ms(lambda s: s['seconds'] - own(s) - s['server_seconds']):.1f}",
            f"{step / ms(lambda s: s['server_seconds'] + own(s)):.3f}"]
        if args.blocks_ms:
            blocks, mine = args.blocks_ms, ms(own)
            columns += [f"{blocks:.1f}", f"{step / (blocks + mine):.3f}",
                        f"{step / max(blocks, mine):.3f}"]
        print(", ".join(map(str, columns)))


if __name__ == "__main__":
    main()
