"""The scheduler runs out of descriptors or memory, or a client does not read: it goes on.

May import: fastdist, tests.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fastdist import Client
from fastdist.comm import Role, Token, connect
from tests.faults.daemons import start_python
from tests.faults.waiting import until

MIB = 1 << 20
SECRET = "ab" * 32
#: What the scheduler may grow by for a client that does not read.
SLOW_CLIENT = 80 * MIB

FOLLOW = """
import sys, time
from fastdist import Client
client = Client(sys.argv[1], token_file=sys.argv[2])
client.subscribe_topic("news", lambda event: None)
client.submit(abs, -1).result(timeout=20)
print("following", flush=True)
time.sleep(600)
"""


class Daemons:
    """A scheduler and a worker without a nanny, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.token_file = folder / "token"
        self.token_file.touch(0o600)
        self.token_file.write_text(SECRET)
        self.processes: list[subprocess.Popen[str]] = []
        self.log = folder / "scheduler.log"
        self.pid = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", log=self.log).pid
        self.address = until(self._address, "the scheduler's address")
        self.start("worker", self.address, "--nthreads", "1", "--no-nanny", log=folder / "worker.log")

    def start(self, module: str, *arguments: str, log: Path) -> subprocess.Popen[str]:
        with open(log, "w") as file:
            process = start_python(
                "-m", f"fastdist.cli.{module}", *arguments, "--token-file", str(self.token_file), stderr=file
            )
        self.processes.append(process)
        return process

    def _address(self) -> str:
        return self.log.read_text().partition("Scheduler at:")[2].strip().partition("\n")[0]

    def client(self) -> Client:
        return Client(self.address, token_file=str(self.token_file), timeout=20)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path_factory.mktemp("daemons"))
    yield daemons
    daemons.stop()


@contextmanager
def limited(pid: int, which: int, value: int) -> Iterator[None]:
    """Set the soft limit of another process for a while."""
    soft, hard = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (value, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, which, (soft, hard))


def works(client: Client) -> bool:
    return client.gather(client.map(abs, range(-100, 0), pure=False)) == list(range(100, 0, -1))


def test_without_descriptors_old_connections_are_served_and_new_ones_wait(daemons: Daemons) -> None:
    with daemons.client() as client:
        assert works(client)
        with limited(daemons.pid, resource.RLIMIT_NOFILE, psutil.Process(daemons.pid).num_fds()):
            asyncio.run(_try_to_connect(daemons))
            until(lambda: "pauses accepting connections" in daemons.log.read_text(), "the pause")
            assert works(client)
        with daemons.client() as other:
            assert works(other)
        assert works(client)


async def _try_to_connect(daemons: Daemons) -> None:
    token = Token.from_hex(SECRET, "of a test")
    with pytest.raises(TimeoutError):
        await connect(daemons.address, role=Role.CLIENT, token=token, timeout=0.3)


def test_a_frame_for_which_there_is_no_memory_ends_its_connection_only(daemons: Daemons) -> None:
    with daemons.client() as client:
        assert works(client)
        used = psutil.Process(daemons.pid).memory_info().vms
        with limited(daemons.pid, resource.RLIMIT_AS, used + 128 * MIB):
            assert asyncio.run(_send_header(daemons, kind=3, length=1 << 30)) == b""
            assert "there is no memory for a frame of" in daemons.log.read_text()
            assert works(client)
        assert works(client)


async def _send_header(daemons: Daemons, kind: int, length: int) -> bytes:
    """Announce a frame on a connection of its own; what comes back until it is closed."""
    token = Token.from_hex(SECRET, "of a test")
    comm = await connect(daemons.address, role=Role.CLIENT, token=token, timeout=20)
    sock = comm.detach()
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, struct.pack("<IIQ", kind, 0, length) + bytes(1000))
        return await asyncio.wait_for(loop.sock_recv(sock, 1000), 20)
    except ConnectionResetError:
        return b""
    finally:
        sock.close()


def test_a_client_that_does_not_read_costs_little_and_others_go_on(daemons: Daemons) -> None:
    scheduler = psutil.Process(daemons.pid)
    slow = start_python("-c", FOLLOW, daemons.address, str(daemons.token_file), stdout=subprocess.PIPE)
    try:
        assert slow.stdout is not None and slow.stdout.readline() == "following\n"
        os.kill(slow.pid, signal.SIGSTOP)
        with daemons.client() as client:
            before = scheduler.memory_info().rss
            for number in range(300):
                client.log_event("news", bytes([number % 251]) * MIB)
                if not number % 50:
                    assert works(client)
            assert works(client)
            grown = scheduler.memory_info().rss - before
            assert grown <= SLOW_CLIENT, f"the scheduler grew by {grown / MIB:.0f} MiB"
    finally:
        slow.kill()
        slow.communicate(timeout=20)
