#!/usr/bin/env python3
"""The Python client with codecs dictionary and aqsgd against seamd and the C client.

    test_python_stateful.py SEAMD TRAIN_TOKENS

Three epochs of twelve samples, four a step in two micro-batches, in another order each time; the state
of the codecs on this side is tests/oracle/wire_numpy alone.  seamd takes every tensor (a cache
that had come apart is refused by its CRC), the losses are those of the C client, and a sample costs
fp16 once and 4 bits a value afterwards.

What differs from the C client is the rounding of the two heads (NumPy f64, C f32), which now and then
moves a code of a gradient: bound 1e-4 relative, 1e-6 for the first step.
"""
import pathlib
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "python_client"), str(HERE.parent / "oracle")]

from service_fixture import Seamd, generate_messages, seamd_path, write_model  # noqa: E402

SEED, VOCAB, SAMPLES, EPOCHS, BITS, CACHE_BYTES = 11, 96, 12, 3, 4, 1 << 20


def make_steps(np, micro_class):
    """A token mostly follows from the one before; labels on the second half of each sample."""
    rng = np.random.default_rng(5)
    follow = rng.permutation(VOCAB)
    samples = []
    for _ in range(SAMPLES):
        ids = [int(rng.integers(VOCAB))]
        for _ in range(int(rng.integers(9, 40)) - 1):
            ids.append(int(follow[ids[-1]]) if rng.random() < 0.9 else int(rng.integers(VOCAB)))
        labelled = [len(ids) // 2 <= row < len(ids) - 1 for row in range(len(ids))]
        samples.append((ids, labelled))
    steps = []
    for _ in range(EPOCHS):
        order = rng.permutation(SAMPLES)
        for begin in range(0, SAMPLES, 4):
            micros = []
            for pair in (order[begin:begin + 2], order[begin + 2:begin + 4]):
                ids, labelled = (sum((samples[i][k] for i in pair), []) for k in (0, 1))
                micros.append(micro_class(np.array(ids), [len(samples[i][0]) for i in pair],
                                          np.array(labelled), [int(i) for i in pair]))
            steps.append(micros)
    return steps


def make_config(dictionary, cache_bits):
    """What train_tokens.c asks for."""
    from seam.v1 import types_pb2 as t
    codec = t.CodecConfig(codec=t.CODEC_AQSGD, bits=BITS, labelled_rows_only=True, seed=SEED)
    codec.aqsgd.cache_bytes_max = CACHE_BYTES
    codec.aqsgd.cache_format = t.CACHE_FORMAT_QUANTIZED if cache_bits else t.CACHE_FORMAT_FP16
    codec.aqsgd.cache_bits = cache_bits
    if dictionary:
        codec.codec_fwd_in = t.CODEC_DICTIONARY
        codec.dictionary_rows_max = 65536
    return t.SessionConfig(
        model="tiny", topology=t.TOPOLOGY_U_SHAPED,
        lora=t.LoraConfig(rank=4, alpha=8, seed=SEED, targets=[t.PROJECTION_Q, t.PROJECTION_V]),
        optimizer=t.OptimizerConfig(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8,
                                    schedule=t.SCHEDULE_CONSTANT),
        codec=codec,
        limits=t.Limits(rows_per_micro_max=512, sequences_per_micro_max=16, micros_per_step_max=2))


def steps_file(steps):
    data = [len(steps)]
    for micros in steps:
        data.append(len(micros))
        for m in micros:
            data += [len(m.sequence_rows), *m.sequence_rows, *map(int, m.ids), *map(int, m.labelled)]
            data += m.sample_ids
    return struct.pack(f"<{len(data)}I", *data)


def check(server, folder, np, dictionary, cache_bits):
    from local_model import LocalModel
    from stateful_client import Micro, StatefulSession
    steps = make_steps(np, Micro)
    (folder / "steps").write_bytes(steps_file(steps))
    session = StatefulSession(server.address, LocalModel(folder / "model"),
                              make_config(dictionary, cache_bits))
    python, bits = [], []
    for micros in steps:
        python.append(session.step(micros))
        last = micros[-1]
        rows = (len(last.ids), int(last.labelled.sum()))
        bits.append([8 * session.sent[s] / (n * session.channels) for s, n in zip((0, 1), rows)])
    session.close()
    name = "aqsgd/dictionary" if dictionary else "aqsgd"
    output = subprocess.run(
        [sys.argv[2], server.address, str(folder / "model"), "tiny", str(SEED),
         str(folder / "steps"), name, str(cache_bits)], stdout=subprocess.PIPE, check=True,
        text=True).stdout
    theirs = [float(line.split()[1]) for line in output.splitlines()]
    assert len(theirs) == len(steps)
    worst = max(abs(p["loss"] - c) / c for p, c in zip(python, theirs))
    first = abs(python[0]["loss"] - theirs[0]) / theirs[0]
    print(f"{name}, cache bits {cache_bits}: largest relative difference {worst:.2e}, first "
          f"{first:.2e}; bits a value in the last micro-batch of each step, in and out: "
          f"{' '.join(f'{a:.2f},{b:.2f}' for a, b in bits)}")
    assert worst < 1e-4 and first < 1e-6
    epoch = len(steps) // EPOCHS
    assert all(b[1] > 16 for b in bits[:epoch]) and all(b[1] < 8 for b in bits[epoch:])
    if dictionary:
        assert all(b[0] < 16 for b in bits) and all(b[0] < 0.5 for b in bits[epoch:])
    else:
        assert all(b[0] > 16 for b in bits[:epoch]) and all(b[0] < 7 for b in bits[epoch:])


def check_apart(server, folder, np):
    """Caches that have come apart are refused, by the sample's name."""
    import grpc
    from local_model import LocalModel
    from stateful_client import Micro, StatefulSession
    steps = make_steps(np, Micro)
    session = StatefulSession(server.address, LocalModel(folder / "model"), make_config(False, 0))
    for micros in steps[:SAMPLES // 4]:
        session.step(micros)
    sample = steps[SAMPLES // 4][0].sample_ids[1]
    entries = session.ends[0].cache.entries
    rows, data = entries[sample]
    entries[sample] = rows, bytes([data[0] ^ 1]) + data[1:]
    try:
        session.step(steps[SAMPLES // 4])
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert f"sample {sample}: the sender has cached other values" in error.details(), error
        print(f"apart: {error.details()}")
    else:
        raise AssertionError("other caches were not noticed")


def main():
    seamd = seamd_path()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "generated").mkdir()
        generate_messages(str(folder / "generated"))
        write_model(folder / "model", vocab=VOCAB)
        import numpy as np
        with Seamd(seamd, folder / "model") as server:
            for dictionary, cache_bits in ((False, 0), (True, 0), (False, 6)):
                check(server, folder, np, dictionary, cache_bits)
            check_apart(server, folder, np)
            assert server.stop() == 0


main()
