"""Two network namespaces with a wide area network between them: each side's rate is a token bucket of
the kernel's (tc tbf), delay, loss and cuts are link_shim's, through which every packet of both
directions passes.  Needs root, ip, tc and /dev/net/tun."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

NEAR, FAR = "10.77.0.1", "10.77.0.2"

# One end of a plain TCP transfer: the receiver tells bytes and seconds from its first byte to its last.
RECEIVER = """
import json, socket, sys, time
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
peer, _ = listener.accept()
total, begin = 0, None
while data := peer.recv(1 << 16):
    total += len(data)
    begin = begin or time.monotonic()
print(json.dumps([total, time.monotonic() - begin]), flush=True)
"""
SENDER = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
block, end = bytes(1 << 16), time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    peer.sendall(block)
"""


class Wan:
    """Opened by `with`; `usable` says whether this machine lets us.  rtt_ms without the buckets'."""

    def __init__(self, shim: str, *, mbit: int, rtt_ms: float, loss_percent: float = 0, seed: int = 1,
                 name: str = "wan"):
        self.shim, self.mbit, self.rtt_ms = shim, mbit, rtt_ms
        self.loss_percent, self.seed = loss_percent, seed
        self.spaces = [f"seam_{name}_{side}_{os.getpid()}" for side in ("near", "far")]
        self.usable, self.process = False, None

    def prefix(self, far: bool):
        return ["ip", "netns", "exec", self.spaces[far]]

    def inside(self, far: bool, *command):
        return subprocess.run([*self.prefix(far), *map(str, command)], check=True,
                              capture_output=True, text=True).stdout

    def wrapper(self, folder: pathlib.Path, binary: str, far: bool) -> str:
        """A program that runs `binary` on that side."""
        path = folder / f"inside-{self.spaces[far]}-{os.path.basename(binary)}"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.prefix(far))} {os.path.abspath(binary)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def cut(self, seconds: float) -> None:
        """Nothing passes for so long, from now on."""
        self.process.stdin.write(f"cut {int(seconds * 1000)}\n")
        self.process.stdin.flush()

    def bare(self, seconds: float, down: bool = False, port: int = 5001):
        """Mbit/s of a plain TCP transfer of so long, client to server (or back)."""
        side, address = (0, NEAR) if down else (1, FAR)
        receiver = subprocess.Popen([*self.prefix(side), sys.executable, "-c", RECEIVER, address, str(port)],
                                    stdout=subprocess.PIPE, text=True)
        assert receiver.stdout.readline() == "ready\n"
        self.inside(1 - side, sys.executable, "-c", SENDER, address, port, seconds)
        total, took = json.loads(receiver.stdout.readline())
        receiver.wait()
        return 8e-6 * total / took

    def counts(self):
        """The shim's last words; the link is gone."""
        self.process.stdin.write("end\n")
        self.process.stdin.flush()
        return self.process.stdout.read()

    def lost_count(self) -> int:
        """Packets that the shim has lost, both ways; the link is gone."""
        return sum(int(line.split()[-1]) for line in self.counts().splitlines())

    def configure(self):
        """Queues of the buckets hold a round trip and 50 ms more, as a router's might.  The kernel's
        default of 4 MB of unsent and unacknowledged bytes is less than 100 Mbit/s need over 300 ms."""
        for far, address in enumerate((NEAR, FAR)):
            self.inside(far, "sh", "-c", "echo 4096 16384 16777216 > /proc/sys/net/ipv4/tcp_wmem")
            self.inside(far, "ip", "link", "set", "lo", "up")
            self.inside(far, "ip", "addr", "add", f"{address}/30", "dev", "wan0")
            self.inside(far, "ip", "link", "set", "wan0", "mtu", "1500", "up")
            self.inside(far, "tc", "qdisc", "replace", "dev", "wan0", "root", "tbf", "rate",
                        f"{self.mbit}mbit", "burst", "16kb", "latency", f"{self.rtt_ms + 50:.0f}ms")

    def __enter__(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or \
                not shutil.which("ip") or not shutil.which("tc"):
            return self
        try:
            for space in self.spaces:
                subprocess.run(["ip", "netns", "add", space], check=True, capture_output=True)
            self.process = subprocess.Popen(
                [self.shim, *self.spaces, str(self.rtt_ms / 2), str(self.loss_percent), str(self.seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.process.stdout.readline() == "ready\n":
                self.configure()
                self.usable = True
        except subprocess.CalledProcessError:
            pass
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


# A CuttingProxy (cli_fixture.py): its address, and at the end of the input its cuts.
CUTTER = """
import sys
sys.path.insert(0, sys.argv[1])
from cli_fixture import CuttingProxy
proxy = CuttingProxy(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
print(proxy.address, flush=True)
sys.stdin.read()
print(proxy.cut_count)
"""


class CuttingProxyNear:
    """At the client's end of the network: the first `cuts` connections end once they have carried
    `cut_after` bytes to `target`.  Opened by `with`; `cut_count` afterwards."""

    def __init__(self, wan: Wan, target: str, cut_after: int, cuts: int):
        self.command = [*wan.prefix(False), sys.executable, "-c", CUTTER,
                        str(pathlib.Path(__file__).resolve().parent), target, str(cut_after), str(cuts)]
        self.process, self.address, self.cut_count = None, None, None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the proxy did not start"
        return self

    def __exit__(self, *_):
        out, _ = self.process.communicate()
        self.cut_count = int(out) if out else None
