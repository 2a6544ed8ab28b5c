#!/usr/bin/env python3
"""timeline.py CLIENT_JSON [SERVER_JSON] [--step N] [--out MERGED_JSON] [--columns N]

Puts the timelines of `seam train --trace` and `seamd --trace`, taken on one machine, together and
draws one step as text: a row a phase, a column a slice of the step, a filled column one that the phase
had for most of it, a dot one that it touched.  Step: by default the last that both files hold whole.
MERGED_JSON holds the events of both, for Perfetto.
"""
import argparse
import json

ROWS = [("client", "embed"), ("client", "encode"), ("client", "send"), ("client", "wait"),
        ("client", "decode"), ("client", "head"), ("client", "record"),
        ("receive", "forward"), ("receive", "backward"),
        ("queue", "forward"), ("queue", "backward"), ("engine", "decode"), ("engine", "blocks"),
        ("engine", "encode"), ("engine", "optimizer"), ("send", "forward"), ("send", "backward")]
SERVER_LANES = ["receive", "queue", "engine", "send"]


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def spans(events, client):
    """(lane, name, step, micro, begin, end) in microseconds."""
    return [("client" if client else SERVER_LANES[e["tid"]], e["name"], e["args"]["step"],
             e["args"].get("micro"), e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]


def whole_steps(all_spans):
    """Steps whose client span is there and that had an optimizer, where a server was looked at."""
    client = {s[2] for s in all_spans if s[:2] == ("client", "step")}
    server = {s[2] for s in all_spans if s[:2] == ("engine", "optimizer")}
    return sorted(client & server if server else client)


def union(intervals):
    """Length of the union."""
    total, end = 0.0, float("-inf")
    for a, b in sorted(intervals):
        total += max(0.0, b - max(a, end))
        end = max(end, b)
    return total


def overlap(one, other):
    """Length of the time that both unions cover."""
    return union(one) + union(other) - union(one + other)


def draw(all_spans, step, columns):
    begin, end = next((s[4], s[5]) for s in all_spans if s[:3] == ("client", "step", step))
    width = (end - begin) / columns
    lines = [f"step {step}: {(end - begin) / 1e3:.1f} ms, a column is {width / 1e3:.2f} ms"]
    inside = [s for s in all_spans if s[2] == step and s[5] > begin and s[4] < end]
    for lane, name in ROWS:
        mine = [(max(s[4], begin), min(s[5], end)) for s in inside if s[:2] == (lane, name)]
        if not mine:
            continue
        cells = ""
        for i in range(columns):
            a, b = begin + i * width, begin + (i + 1) * width
            share = union([(max(x, a), min(y, b)) for x, y in mine if x < b and y > a]) / width
            cells += "#" if share >= 0.5 else "." if share > 0 else " "
        lines.append(f"{lane:>8} {name:<9} {union(mine) / 1e3:8.1f} ms |{cells}|")
    work = [(s[4], s[5]) for s in inside
            if s[0] == "client" and s[1] in ("embed", "encode", "decode", "head")]
    engine = [(s[4], s[5]) for s in inside if s[0] == "engine" and s[1] in ("forward", "backward")]
    lines.append(f"client's work {union(work) / 1e3:.1f} ms, engine {union(engine) / 1e3:.1f} ms, "
                 f"both at once {overlap(work, engine) / 1e3:.1f} ms")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("server", nargs="?")
    parser.add_argument("--step", type=int)
    parser.add_argument("--out")
    parser.add_argument("--columns", type=int, default=100)
    args = parser.parse_args()
    client = load(args.client)
    server = load(args.server) if args.server else []
    every = spans(client, True) + spans(server, False)
    step = args.step if args.step is not None else whole_steps(every)[-1]
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({"displayTimeUnit": "ms", "traceEvents": client + server}, file)
    print(draw(every, step, args.columns))


if __name__ == "__main__":
    main()
