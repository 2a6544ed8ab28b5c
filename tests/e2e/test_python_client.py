#!/usr/bin/env python3
"""The Python client trains against seamd, and its losses are those of the C client.

    test_python_client.py SEAMD TRAIN_TOKENS

Both clients train a tiny random model on the same tokens with codec amaq: two micro-batches a step,
unlabelled rows, an allocation that changes every step.  All that the server computes is the same;
what differs is the rounding of the two heads (NumPy f64, C f32), which may move a code of a
stochastically rounded gradient.  Measured: 1.2e-8 relative over 12 steps, and 6e-6 where a code had
moved; the bound is 1e-4, and 1e-6 for the first step, where no gradient has acted yet.
"""
import pathlib
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "python_client"), str(HERE.parent / "oracle")]

from service_fixture import (Client, Seamd, generate_messages, seamd_path, wait_for,  # noqa: E402
                             write_model)

STEPS, SEED, VOCAB = 12, 11, 96


def make_steps(np, micro_class):
    """Sequences in which a token mostly follows from the one before, so that there is something to
    learn; labels on the second half of each."""
    rng = np.random.default_rng(5)
    follow = rng.permutation(VOCAB)
    steps = []
    for _ in range(STEPS):
        micros = []
        for _ in range(2):
            sequence_rows = [int(n) for n in rng.integers(9, 40, 3)]
            ids, labelled = [], []
            for rows in sequence_rows:
                token = int(rng.integers(VOCAB))
                for row in range(rows):
                    ids.append(token)
                    labelled.append(rows // 2 <= row < rows - 1)
                    token = int(follow[token]) if rng.random() < 0.9 else int(rng.integers(VOCAB))
            micros.append(micro_class(np.array(ids), sequence_rows, np.array(labelled)))
        steps.append(micros)
    return steps


def make_config():
    """What train_tokens.c asks for: libseam's defaults, with a small adapter and a larger rate."""
    from seam.v1 import types_pb2 as t
    gates = t.AmaqConfig(bits_min=1, bits_max=16, bits_start=8, bits_target=4, alpha=1, beta=0.02,
                         bits_lr=0.01, bits_loss=t.BITS_LOSS_L2, clipping=t.CLIPPING_SOFT,
                         gate_signal=t.GATE_SIGNAL_SURROGATE, alloc_lag_steps=2)
    return t.SessionConfig(
        model="tiny", topology=t.TOPOLOGY_U_SHAPED,
        lora=t.LoraConfig(rank=4, alpha=8, seed=SEED, targets=[t.PROJECTION_Q, t.PROJECTION_V]),
        optimizer=t.OptimizerConfig(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8,
                                    schedule=t.SCHEDULE_CONSTANT),
        codec=t.CodecConfig(codec=t.CODEC_AMAQ, labelled_rows_only=True, seed=SEED, amaq=gates),
        limits=t.Limits(rows_per_micro_max=512, sequences_per_micro_max=16, micros_per_step_max=2))


def steps_file(steps):
    data = [len(steps)]
    for micros in steps:
        data.append(len(micros))
        for m in micros:
            data += [len(m.sequence_rows), *m.sequence_rows, *map(int, m.ids), *map(int, m.labelled)]
    return struct.pack(f"<{len(data)}I", *data)


def main():
    seamd, train_tokens = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "generated").mkdir()
        generate_messages(str(folder / "generated"))
        write_model(folder / "model", vocab=VOCAB)
        import numpy as np
        from local_model import LocalModel
        from seam.v1 import service_pb2
        from seam_client import Micro, Session
        steps = make_steps(np, Micro)
        (folder / "steps").write_bytes(steps_file(steps))
        with Seamd(seamd, folder / "model", "--state-dir", str(folder / "state"),
                   "--checkpoint-percent", "100") as server:
            session = Session(server.address, LocalModel(folder / "model"), make_config())
            python = [session.step(micros) for micros in steps[:-2]]
            saved = Client(session.channel).unary("SaveCheckpoint", service_pb2.SaveCheckpointRequest(
                session_id=session.id, session_secret=session.secret),
                service_pb2.SaveCheckpointResponse).durable_step_count  # however slow the disk is
            python.append(session.step(steps[-2]))
            confirmed = session.durable
            python.append(session.step(steps[-1]))
            # What it has confirmed lets the server delete what is older.
            assert confirmed >= saved == STEPS - 2, (confirmed, saved)
            wait_for(lambda: min(int(path.stem) for path in folder.glob("state/sessions/*/*.manifest"))
                     >= confirmed, what="older checkpoints to go")
            versions = [a.version for a in session.allocs[1]]
            session.close()
            output = subprocess.run(
                [train_tokens, server.address, str(folder / "model"), "tiny", str(SEED),
                 str(folder / "steps")], stdout=subprocess.PIPE, check=True, text=True).stdout
            assert server.stop() == 0
    c = [line.split() for line in output.splitlines()]
    assert len(c) == STEPS
    worst = 0.0
    for ours, theirs in zip(python, c):
        difference = abs(ours["loss"] - float(theirs[1])) / float(theirs[1])
        worst = max(worst, difference)
        print(f"step {ours['step']:2d} python {ours['loss']:.6f} c {float(theirs[1]):.6f} "
              f"bits {ours['gate_mean_bits']:.3f} {float(theirs[2]):.3f}")
        assert abs(ours["gate_mean_bits"] - float(theirs[2])) < 0.05
    print(f"largest relative difference {worst:.2e}; allocations of site 1: {versions}")
    assert worst < 1e-4
    assert abs(python[0]["loss"] - float(c[0][1])) < 1e-6 * python[0]["loss"]
    assert python[-1]["gate_mean_bits"] < python[0]["gate_mean_bits"], "the widths fall"
    assert len(versions) > 2, "the server proposed allocations"


main()
