"""What many idle workers cost the scheduler: simulated workers register, send heartbeats and do nothing else.

    python bench/idle_workers.py [--workers 1000] [--seconds 10]

The workers are bare connections of this process that say what docs/wire.md demands of a worker, as often as
the scheduler asks for. Prints the scheduler's share of one core. May import: fastdist, `peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

from peers.processes import cpu_seconds

from fastdist.comm.core import Comm, connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.rpc.peer import Peer

METRICS = {
    "cpu": 1.5,
    "memory": 123_456_789,
    "time": 1_700_000_000.5,
    "executing": 0,
    "ready": 0,
    "in_memory": 0,
    "spilled_bytes": 0,
    "event_loop_interval": 0.02,
}


class IdleWorker:
    """One connection that behaves like a worker without tasks."""

    def __init__(self, number: int, comm: Comm) -> None:
        self.number = number
        self.peer = Peer(comm, {"heartbeat-interval": self.change_interval}, name=f"idle-{number}")
        self.heartbeat_interval = 0.0
        self.beats = 0

    async def register(self) -> None:
        """Introduce the worker."""
        reply = await self.peer.call(
            "register-worker",
            timeout=30,
            address=f"tcp://127.0.0.1:{self.number + 1}",
            name=f"idle-{self.number}",
            host="127.0.0.1",
            pid=os.getpid(),
            nthreads=1,
            memory_limit=2**30,
            resources={},
            nanny=None,
            versions={},
            has=[],
        )
        self.heartbeat_interval = float(reply["heartbeat_interval"])

    def change_interval(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """The scheduler wants heartbeats at another pace, because there are more workers or fewer."""
        self.heartbeat_interval = float(fields["seconds"])

    async def beat(self, delay: float) -> None:
        """Send heartbeats until cancelled; the first after `delay`, so that not all come at once."""
        await asyncio.sleep(delay)
        while True:
            self.peer.notify("heartbeat", metrics=METRICS)
            self.beats += 1
            await asyncio.sleep(self.heartbeat_interval)


async def start_workers(address: str, token: Token, count: int) -> list[IdleWorker]:
    """Connect and register, a few at a time."""
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> IdleWorker:
        async with gate:
            comm = await connect(address, role=Role.WORKER, token=token, timeout=30)
            worker = IdleWorker(number, comm)
            await worker.register()
            return worker

    return await asyncio.gather(*(one(number) for number in range(count)))


async def measure(address: str, token: Token, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """The scheduler's share of a core while the workers beat."""
    start = time.perf_counter()
    workers = await start_workers(address, token, options.workers)
    registered = time.perf_counter() - start
    beats = [
        asyncio.create_task(worker.beat(worker.heartbeat_interval * number / options.workers))
        for number, worker in enumerate(workers)
    ]
    await asyncio.sleep(1.0 + workers[0].heartbeat_interval)
    before, sent, start = cpu_seconds(pid), sum(worker.beats for worker in workers), time.perf_counter()
    await asyncio.sleep(options.seconds)
    elapsed = time.perf_counter() - start
    spent = cpu_seconds(pid) - before
    heard = sum(worker.beats for worker in workers) - sent
    lost = sum(worker.peer.closed for worker in workers)
    for beat in beats:
        beat.cancel()
    await asyncio.gather(*(worker.peer.close() for worker in workers))
    return {
        "workers": options.workers,
        "registered_in_seconds": registered,
        "heartbeats_per_second": heard / elapsed,
        "scheduler_share_of_a_core": spent / elapsed,
        "connections_lost": lost,
    }


def scheduler_daemon(folder: Path) -> tuple[subprocess.Popen[bytes], str, Token]:
    """Start a scheduler with a fresh token and wait for its address."""
    token = Token.from_hex(secrets.token_hex(32), "made for this benchmark")
    token_file, contact = folder / "token", folder / "scheduler.json"
    token_file.touch(mode=0o600)
    token_file.write_text(token.to_hex())
    command = [
        sys.executable,
        "-m",
        "fastdist.cli.scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    command += ["--token-file", str(token_file), "--scheduler-file", str(contact)]
    with open(folder / "scheduler.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return process, json.loads(contact.read_text())["address"], token
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"the scheduler did not start:\n{(folder / 'scheduler.log').read_text()[-2000:]}")


def main() -> int:
    """Measure and print; 1 when a connection was lost on the way."""
    parser = argparse.ArgumentParser(description="The scheduler's CPU share with many idle workers.")
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * options.workers + 256)), hard))
    with tempfile.TemporaryDirectory() as folder:
        process, address, token = scheduler_daemon(Path(folder))
        try:
            measured = asyncio.run(measure(address, token, process.pid, options))
        finally:
            process.terminate()
            process.wait(30)
    print(json.dumps(measured, indent=1))
    return 1 if measured["connections_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
