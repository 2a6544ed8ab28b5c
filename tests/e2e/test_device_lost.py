"""seamd on a device that fails in mid-step, or runs out of memory after admission.

Goal: a sticky fault is said once, with the device's own words; every stream ends with UNAVAILABLE
and RetryInfo, whoever's step it was; the process ends with the code for a restart, and a new one
serves, with the sessions as their last checkpoints have them.  Method: device_fault.c, the server
with a device that fails at a given backward.

    test_device_lost.py SEAMD_FAULT
"""
import subprocess
import sys

import numpy as np

from service_fixture import DEADLINE_S, Client, Seamd, grpc, refused, run_cases
from service_trainer import Trainer, some_micros
from test_save_checkpoint import save_of
from test_service_train import config_f32
from test_service_unary import messages

CODE = grpc.StatusCode
EXIT_RESTART = 3


class FaultySeamd(Seamd):
    """Its exit code is what the test is about."""

    def __init__(self, binary, model, *args, listen="127.0.0.1:0", **environment):
        super().__init__(binary, model, *args, listen=listen, environment={
            name: str(value) for name, value in environment.items()})

    def __exit__(self, error, *args):
        if self.process.poll() is None:
            self.process.kill()
        super().__exit__(error, *args) if error else self.process.stdout.close()


def test_device_lost__mid_step__all_streams_end_and_the_process_asks_for_a_restart(binary, folder):
    service, _ = messages()
    micros = some_micros(np.random.default_rng(5))
    with FaultySeamd(binary, folder / "model", FAULT_BACKWARD=3) as server, \
            grpc.insecure_channel(server.address) as channel:
        works = Trainer(channel, folder / "model", config_f32())
        waits = Trainer(channel, folder / "model", config_f32(rank=8))
        stream, _ = works.attach()
        idle, _ = waits.attach()
        works.step(stream, micros)  # backward 0 and 1; the next step fails in its second micro-batch

        def step():
            works.step(stream, micros)
            return []

        for lost in (step, idle.drain):
            refused(CODE.UNAVAILABLE, lost, reason="DEVICE_LOST", text="the server restarts")
        assert server.process.wait(DEADLINE_S) == EXIT_RESTART, server.log
        lines = [line for line in server.log.splitlines() if "event=device_lost" in line]
        assert len(lines) == 1 and "sessions=2" in lines[0], server.log
        assert "cuda_linear.cu:7: an illegal memory access was encountered" in lines[0]
        assert "level=error" in lines[0], lines
    with FaultySeamd(binary, folder / "model") as server, \
            grpc.insecure_channel(server.address) as channel:
        again = Trainer(channel, folder / "model", config_f32())
        stream, _ = again.attach()
        again.step(stream, micros)
        stream.close()
        assert server.stop() == 0, server.log


def test_device_lost__sessions_with_checkpoints__go_on_from_the_last_one(binary, folder):
    """The one whose step failed, and one that is a commit ahead of its checkpoint: nothing that a
    lost device holds may reach the disk, so that commit is gone."""
    micros = some_micros(np.random.default_rng(5))
    with FaultySeamd(binary, folder / "model") as server, \
            grpc.insecure_channel(server.address) as channel:
        undisturbed = Trainer(channel, folder / "model", config_f32())
        stream, _ = undisturbed.attach()
        wanted = [undisturbed.step(stream, micros)[1].state_hash for _ in range(4)]
        stream.close()
        assert server.stop() == 0, server.log
    args = (folder / "model", "--state-dir", str(folder / "lost"))
    with FaultySeamd(binary, *args, FAULT_BACKWARD=7, FAULT_CADENCE=0) as server, \
            grpc.insecure_channel(server.address) as channel:
        address = server.address
        trainers = [Trainer(channel, folder / "model", config_f32()) for _ in range(2)]
        works, waits = trainers
        streams = [trainer.attach()[0] for trainer in trainers]
        for trainer, stream in zip(trainers, streams):  # backward 0 to 3
            assert trainer.step(stream, micros)[1].state_hash == wanted[0]
            assert save_of(trainer) == 1
        assert waits.step(streams[1], micros)[1].durable_step_count == 1  # 4 and 5
        refused(CODE.UNAVAILABLE, works.step, streams[0], micros, reason="DEVICE_LOST")
        refused(CODE.UNAVAILABLE, streams[1].drain, reason="DEVICE_LOST")
        assert server.process.wait(DEADLINE_S) == EXIT_RESTART, server.log
    with FaultySeamd(binary, *args, listen=address) as server, \
            grpc.insecure_channel(address) as channel:
        for trainer in trainers:
            trainer.channel = channel
            stream, attached = trainer.attach()
            assert attached.committed_step_count == 1 == attached.durable_step_count, attached
            trainer.committed = 1
            hashes = [trainer.step(stream, micros)[1].state_hash for _ in range(1, 4)]
            assert hashes == wanted[1:]
            stream.close()
        assert server.stop() == 0, server.log


def test_create__memory_ends_after_admission__says_what_was_needed(binary, folder):
    service, _ = messages()
    with FaultySeamd(binary, folder / "model", FAULT_CREATE=1) as server, \
            grpc.insecure_channel(server.address) as channel:
        client = Client(channel)
        request = service.CreateSessionRequest(config=config_f32())
        client.unary("CreateSession", request, service.CreateSessionResponse)
        before = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                              service.GetServerInfoResponse).memory_bytes_free
        refused(CODE.RESOURCE_EXHAUSTED, client.unary, "CreateSession", request,
                service.CreateSessionResponse, reason="MEMORY", text="session needs ")
        after = client.unary("GetServerInfo", service.GetServerInfoRequest(),
                             service.GetServerInfoResponse).memory_bytes_free
        assert after == before  # what was reserved is given back
        assert server.stop() == 0, server.log


def test_device__auto_without_one__says_so_and_serves_the_cpu(binary, folder):
    service, _ = messages()
    with FaultySeamd(binary, folder / "model", "--device", "auto") as server, \
            grpc.insecure_channel(server.address) as channel:
        info = Client(channel).unary("GetServerInfo", service.GetServerInfoRequest(),
                                     service.GetServerInfoResponse)
        missing = "event=device_missing" in server.log
        assert missing == ("own kernels" in info.device), (info.device, server.log)
        assert not missing or "device cuda:0: " in server.log
        assert server.stop() == 0, server.log
    done = subprocess.run([binary, "--insecure", "--listen", "127.0.0.1:0", "--model",
                           str(folder / "model"), "--device", "cuda:99"], capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1 and "device cuda:99: " in done.stderr, done


if __name__ == "__main__":
    sys.exit(run_cases(globals()))
