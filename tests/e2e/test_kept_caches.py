#!/usr/bin/env python3
"""Runs with codec aqsgd, whose caches both ends keep in redo logs: kill -9 of server, client and
both, damaged logs at either end, a disk without room for a record of the server's.

Goal: the undisturbed run's adapter, losses and state hashes, or a refusal that names the caches.
Method: real runs over TLS (test_kill_runs.py); bytes of logs flipped and cut; seamd_fault.

    test_kept_caches.py SEAMD SEAM SEAMD_FAULT
"""
import os
import pathlib
import random
import struct
import sys
import tempfile
import time

from cli_fixture import HoldingProxy, run_check
from service_fixture import DEADLINE_S, wait_for
from test_kill_runs import CODECS, Case


def logs(folder):
    return sorted(folder.glob("*.caches"))


def place(checkpoint):
    """Where the checkpoint's caches end: file, bytes (proto/base/redo_log.h)."""
    step, number, end, _ = struct.unpack("<QQQQ", checkpoint.read_bytes()[-32:])
    return checkpoint.parent / f"{step:020d}.{number:04d}.caches", end


def session_folders(case):
    return set((case.folder / "state" / "sessions").glob("*"))


def session_folder(case):
    """The youngest that the last cut_run did not find; a run before it may touch its own later."""
    return max(session_folders(case) - case.before, key=lambda f: f.stat().st_mtime_ns)


def checkpoints(case):
    """Those that are whole: a manifest is written last."""
    return [path.with_suffix(".safetensors")
            for path in sorted(session_folder(case).glob("*.manifest"))]


def cut_run(case, name, codec):
    """A run that is held when there are three checkpoints or more; then both ends are killed."""
    out = case.folder / name
    case.before = session_folders(case)
    proxy = HoldingProxy(case.server.address, 1,
                         lambda: (out / "session.json").exists() and len(checkpoints(case)) >= 3)
    command = [proxy.address if arg == case.server.address else arg
               for arg in case.command(out, codec)]
    client = case.begin(*command)
    wait_for(lambda: client.poll() is not None or proxy.is_held.is_set(), what="checkpoints")
    assert client.poll() is None, "the run ended before it was held"
    client.kill()
    client.communicate()
    case.server.kill()
    proxy.let_go()
    proxy.close()
    return out


def resume(case, out):
    client = case.begin("--resume", out, "--server", case.server.address)
    _, err = client.communicate(timeout=DEADLINE_S)
    return client.returncode, err


def check_kills(case, whole):
    """Each end and both, in a run whose samples all fit and one where most visits are misses."""
    rng = random.Random(5)
    for codec, (result, seconds) in whole.items():
        for number, targets in enumerate([["server"], ["client"], ["both"],
                                          ["client", "server", "both"]]):
            got = case.disturbed(f"{codec}-{number}", codec, targets, seconds, rng)
            assert got == result, f"{codec}, killed {targets}: not the undisturbed run"
    # Kills come at times of the clock: some hit a run before its first step, or after its last.
    for number in range(20):
        if case.server.log.count("action=3") >= len(whole):
            break
        result, seconds = whole["aqsgd"]
        assert case.disturbed(f"more-{number}", "aqsgd", ["server"], seconds, rng) == result
    assert case.server.log.count("action=3") >= len(whole), case.server.log


def check_damaged_server_log(case, result):
    """The newest checkpoint's caches are cut off: the one before it counts.  All are: DATA_LOSS."""
    out = cut_run(case, "cut", "aqsgd")
    log, end = place(checkpoints(case)[-1])
    before = place(checkpoints(case)[-2])
    assert log.stat().st_size >= end and (before[0] != log or before[1] < end)
    with log.open("r+b") as file:
        file.truncate(end - 1)
    case.server.start()
    code, err = resume(case, out)
    assert code == 0, err
    assert "checkpoint_damaged" in case.server.log and "caches" in case.server.log
    assert case.result(out) == result


def check_damaged_logs(case):
    out = cut_run(case, "lost", "aqsgd")
    for path in logs(session_folder(case)):
        data = bytearray(path.read_bytes())
        data[20] ^= 1  # of the head: the checkpoint of step 0 needs no more
        path.write_bytes(data)
    case.server.start()
    code, err = resume(case, out)
    assert code != 0 and "checkpoint" in err, (code, err)
    assert "session_lost" in case.server.log
    # The client's own.
    out = cut_run(case, "mine", "aqsgd")
    case.server.start()
    found = logs(out)
    assert found, list(out.iterdir())
    data = bytearray(found[-1].read_bytes())
    data[100] ^= 1
    found[-1].write_bytes(data)
    code, err = resume(case, out)
    assert code != 0 and "caches of codec aqsgd" in err and "damaged" in err, (code, err)
    found[-1].unlink()
    code, err = resume(case, out)
    assert code != 0 and "caches of codec aqsgd" in err and "is not there" in err, (code, err)


def check_full_disk(case, fault, result):
    """The server's log finds no room for a record: the next checkpoint begins a new log, and a kill
    behind it finds the caches."""
    case.server.stop()
    real, case.server.binary = case.server.binary, fault
    os.environ["FAULT_LOG"] = "60"
    try:
        for number in range(20):  # again where a busy machine let the run end first
            out = case.folder / f"full-{number}"
            case.before = session_folders(case)
            case.server.start()
            client = case.begin(*case.command(out, "aqsgd"))
            wait_for(lambda: client.poll() is not None or session_folders(case) > case.before and
                     len(logs(session_folder(case))) >= 2, what="a new log")
            case.server.kill()
            if client.poll() is None:
                break
        assert client.poll() is None, "each run ended before a new log had begun"
    finally:
        del os.environ["FAULT_LOG"]
        case.server.binary = real
    case.server.start()
    _, err = client.communicate(timeout=DEADLINE_S)
    assert client.returncode == 0, err
    assert case.result(out) == result


def check_without_state_dir(case, result, seconds):
    """A server that keeps nothing, and a client that dies: where no step was open the run is the
    undisturbed one, else it ends and says why; never another run."""
    case.server.stop()
    at = case.server.args.index("--state-dir")
    case.server.args = case.server.args[:at] + case.server.args[at + 2:]
    # It must still have the session when a slow client is back.
    case.server.args[case.server.args.index("--lease-timeout") + 1] = "3600000"
    case.server.start()
    rng, same = random.Random(9), 0
    for number in range(8):
        out = case.folder / f"bare-{number}"
        client = case.begin(*case.command(out, "aqsgd"))
        time.sleep(rng.uniform(0.3, 0.9) * seconds)
        client.kill()
        client.communicate()
        if not case.has_begun(out):
            continue
        code, err = resume(case, out)
        if code == 0:
            assert case.result(out) == result
            same += 1
        else:
            assert "aqsgd" in err or "no checkpoint" in err, err
    print(f"without --state-dir: {same} of 8 went on, the others said why")


def main() -> int:
    seamd, seam, fault = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as name:
        case = Case(pathlib.Path(name), seamd, seam, "cpu")
        whole = {codec: case.whole(codec) for codec in CODECS if "aqsgd" in CODECS[codec]}
        result = whole["aqsgd"][0]
        for check, args in [(check_kills, [whole]), (check_damaged_server_log, [result]),
                            (check_damaged_logs, []), (check_full_disk, [fault, result]),
                            (check_without_state_dir, whole["aqsgd"])]:
            run_check(check, case, *args)
        case.server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
