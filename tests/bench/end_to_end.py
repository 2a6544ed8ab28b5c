#!/usr/bin/env python3
"""end_to_end.py REPORT...: where the steps of a run spent their time, medians after the first two.

`server` holds its blocks, its codec and its copies from and to the device; `rest` is what is neither it
nor the client's head and codec: gRPC and waiting.
"""
import json
import statistics
import sys


def main():
    print("run, tokens a step, step ms, head, client codec, server, of it codec, rest, step / (server + head)")
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        steps = report["steps"][2:]

        def ms(*names):
            return 1e3 * statistics.median(sum(s[n] for n in names) for s in steps)

        rest = 1e3 * statistics.median(
            s["seconds"] - s["head_seconds"] - s["encode_seconds"] - s["decode_seconds"] -
            s["server_seconds"] for s in steps)
        ratio = statistics.median(
            s["seconds"] / (s["server_seconds"] + s["head_seconds"]) for s in steps)
        print(f"{report['config']['codec']}, {steps[0]['tokens']}, {ms('seconds'):.1f}, "
              f"{ms('head_seconds'):.1f}, {ms('encode_seconds', 'decode_seconds'):.1f}, "
              f"{ms('server_seconds'):.1f}, {ms('server_codec_seconds'):.1f}, {rest:.1f}, {ratio:.3f}")


if __name__ == "__main__":
    main()
