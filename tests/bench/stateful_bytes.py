"""Payload bytes a step of the stateful codecs, counted from the tokens of a data file alone.

    dump_rows TOKENIZER DATA > ROWS; stateful_bytes.py ROWS [CHANNELS] [BATCH] [TOKENS_MAX] [EPOCHS]

What a codec sends depends on the tokens, never on the values: dictionary (WIRE.md 3.5) on which rows
repeat, aqsgd (3.6) on which samples do.  Frame headers (64 bytes a chunk) are not counted.  The order
is a permutation in every epoch; one micro-batch a step.  fwd_in: every row; fwd_out: labelled ones.
"""
import random
import sys


def read(path, tokens_max):
    samples = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split()[:tokens_max]
            samples.append(([int(w.rstrip("*")) for w in words],
                            sum(w.endswith("*") for w in words)))
    return samples


def chunks(rows, row_bytes):
    at_most = max(1, (2 ** 20 - 4096) // (32 * row_bytes)) * 32
    return [min(at_most, rows - begin) for begin in range(0, rows, at_most)]


def dictionary_step(table, tokens, channels):
    total, at = 0, 0
    for count in chunks(len(tokens), 2 * channels + 3):
        before = len(table)
        table.update(tokens[at:at + count])
        width = len(table).bit_length()
        total += 12 + (count * width + 7) // 8 + 2 * channels * (len(table) - before)
        at += count
    return total


def aqsgd_step(first, batch, rows, channels, bits):
    """rows: of each sample in the tensor."""
    total = 4 + (len(batch) + 7) // 8
    if first:
        return total + 2 * channels * sum(rows)
    return total + 4 * len(batch) + 4 + 2 * channels + (sum(rows) * channels * bits + 7) // 8


def main():
    numbers = [int(a) for a in sys.argv[2:]] + [576, 8, 384, 3][len(sys.argv) - 2:]
    channels, size, tokens_max, epochs = numbers
    samples = read(sys.argv[1], tokens_max)
    rng, table = random.Random(1), set()
    print(f"{len(samples)} samples, {sum(len(t) for t, _ in samples)} rows of {channels} channels, "
          f"{sum(n for _, n in samples)} labelled; batch {size}; kB a step, bits a value in fwd_in")
    print("epoch  rows    bf16  dictionary (bits)  table   bf16+out  aqsgd4 in+out  affine4 in+out")
    for epoch in range(epochs):
        order = list(range(len(samples)))
        rng.shuffle(order)
        steps = [order[i:i + size] for i in range(0, len(order), size)]
        rows = labelled = raw = coded = delta = affine = 0
        for step in steps:
            tokens = [t for i in step for t in samples[i][0]]
            outs = [samples[i][1] for i in step]
            rows, labelled = rows + len(tokens), labelled + sum(outs)
            raw += 2 * channels * len(tokens)
            coded += dictionary_step(table, tokens, channels)
            for counts in ([len(samples[i][0]) for i in step], outs):
                delta += aqsgd_step(epoch == 0, step, counts, channels, 4)
                affine += 4 + 4 * channels + sum(counts) * channels // 2
        n = len(steps) * 1000
        print(f"{epoch:5}  {rows / len(steps):5.0f} {raw / n:7.1f}  {coded / n:10.2f} "
              f"({8 * coded / rows / channels:.3f})  {len(table):6} "
              f"{(raw + 2 * channels * labelled) / n:9.1f} {delta / n:14.1f} {affine / n:15.1f}")


if __name__ == "__main__":
    main()
