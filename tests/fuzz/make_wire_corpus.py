#!/usr/bin/env python3
"""Seed corpora of fuzz_frame, fuzz_walk, fuzz_proto, fuzz_credit and fuzz_modules: golden files and
honest dialogues."""
import os
import random
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "proto", "golden")


def write(target, name, data):
    os.makedirs(os.path.join(HERE, "corpus", target), exist_ok=True)
    with open(os.path.join(HERE, "corpus", target, name), "wb") as file:
        file.write(data)


def dialogue(kind, micros):
    """Attach, a step of `micros` micro-batches, its commit; the client's side in between."""
    events = bytes([kind, 0, 0, 1, 0, 0])               # attach: nothing in flight
    events += bytes([1, 1, 1, 0, micros])               # step_begin: present step
    for m in range(micros):
        for phase in (0, 16):
            events += bytes([2, 1 | m << 2 | phase, 1, 0, 4])  # tensor, then the engine
    return events + bytes([4]) + bytes([11] * 6)


def one_pass(kind, micros):
    """The same without backward tensors."""
    events = bytes([kind, 0, 0, 1, 0, 0]) + bytes([1, 1, 1, 0, micros])
    for m in range(micros):
        events += bytes([2, 1 | m << 2, 1, 0, 4])
    return events + bytes([4]) + bytes([11] * 6)


SEND, RECEIVE, CONSUME, GRANT, HOSTILE, LOST = 0, 4, 8, 10, 12, 14


def send(end, part):
    """A frame of part/4095 of the largest."""
    return bytes([SEND | end | part >> 8 << 4, part & 255])


def credits():
    """Both windows, then: an end at a time and both at once, grants late, again and never, frames
    without credit, a lost stream, forged limits."""
    trip = bytes([RECEIVE | 1, CONSUME | 1, GRANT | 1, RECEIVE])
    yield "one_way", bytes([0, 0]) + (send(0, 4095) + trip) * 40
    yield "both_ways", bytes([0, 9]) + (send(0, 4095) + send(1, 900) + bytes(
        [RECEIVE | 1, RECEIVE, CONSUME | 1, CONSUME, GRANT | 1, GRANT, RECEIVE, RECEIVE | 1])) * 30
    yield "full_both", bytes([0, 0]) + send(0, 4095) * 4 + send(1, 4095) * 4
    yield "small_frames", bytes([3, 3]) + send(0, 0) * 300 + bytes([RECEIVE | 1] * 300 + [CONSUME | 1] * 299)
    yield "late_grants", bytes([0, 0]) + (send(0, 2000) + trip[:3]) * 20 + bytes([RECEIVE] * 20)
    yield "again", bytes([0, 0]) + (send(0, 3000) + trip[:2] + bytes([GRANT | 1 | 128] * 2 + [RECEIVE] * 2)) * 20
    yield "lost", bytes([7, 7]) + (send(0, 4095) * 3 + bytes([RECEIVE | 1, LOST])) * 6
    yield "uncounted", bytes([255, 0]) + send(1, 4095) * 50 + bytes([RECEIVE] * 30) + send(0, 4095) * 3
    yield "hostile", bytes([0, 200]) + b"".join(
        bytes([HOSTILE | k % 2]) + bytes([0 if k % 4 else 192 + k % 8 // 4]) + struct.pack("<I", 700000 + 90001 * k) + bytes([100 + k]) for k in range(60))
    yield "forged", bytes([0, 0]) + b"".join(
        bytes([LOST | 16]) + struct.pack("<I", 1 << 20) + b"".join(
            struct.pack("<QIB", k << 2 * j, 1000 * j, j) for j in range(8)) for k in (1, 99, 1 << 43))


def main():
    for name in sorted(os.listdir(GOLDEN)):
        path = os.path.join(GOLDEN, name)
        with open(path, "rb") as file:
            data = file.read()
        if name in ("amaq.bin", "affine.bin", "bf16.bin", "f32.bin", "gate_signal.bin", "range.bin",
                    "grad_norm.bin", "loss.bin", "tokens.bin", "amaq_chunk1.bin", "bad_row_count_split.bin"):
            write("frame", name[:-4], data)
        if name.startswith(("message_", "badmsg_")) or name in ("step_begin.bin", "step_begin_labels.bin"):
            write("walk", name[:-4], data)
    # GenerateRows: request 0, two sequences of 3 and 2 rows, all rows out; with slots; labelled.
    write("walk", "rows_all", bytes.fromhex("12061a020302" "2803"))
    write("walk", "rows_slots", bytes.fromhex("120a" "12020100" "1a020302" "2801"))
    write("walk", "rows_labelled", bytes.fromhex("1209" "1a020302" "2802" "320115"))
    for kind in range(8):
        write("proto", f"dialogue{kind}", dialogue(kind, 1 + kind % 3))
    for kind in range(2):
        write("proto", f"one_pass{kind}", one_pass(128 | 8 * kind, 2 + kind))
    for name, data in credits():
        write("credit", name, data)
    # Tensors of 40 rows of 4 channels: f32 whole and in two chunks, bf16, affine with zero ranges.
    def chunk(groups, payload, coding=0):
        return bytes([groups, len(payload) & 255, len(payload) >> 8, coding]) + payload
    ones = struct.pack("<f", 1.0)
    write("modules", "f32", bytes([0, 3, 39]) + chunk(2, 160 * ones))
    write("modules", "f32_gradient", bytes([128, 3, 39]) + chunk(1, 128 * ones) + chunk(1, 32 * ones))
    write("modules", "bf16", bytes([1, 3, 39]) + chunk(2, 160 * ones[2:]))
    write("modules", "affine", bytes([2, 3, 39]) + chunk(2, bytes(4 + 16 + 80)))
    write("modules", "amaq", bytes([6, 3, 39]) + chunk(2, bytes(4 + 16 + 160)))
    write("modules", "channel_bad", bytes([3, 3, 39]) + chunk(2, bytes(4 + 8 + 79) + b"\1"))
    rng = random.Random(7)
    for i in range(24):
        write("proto", f"random{i}", rng.randbytes(600))
    more = random.Random(11)
    for i in range(8):
        write("credit", f"random{i}", more.randbytes(900))
    for i in range(6):
        write("modules", f"random{i}", bytes([i]) + rng.randbytes(500))


main()
