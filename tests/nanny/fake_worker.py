"""A worker without a scheduler, for the tests of what runs its process."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import Any

from fastdist.worker.executing import ExecutingPage


class FakeWorker:
    """Accepts what a worker accepts, and does as its name says."""

    def __init__(self, scheduler_address: str, **options: Any) -> None:
        self.scheduler_address = scheduler_address
        self.options = options
        self.name = options["name"]
        self.address = "none://worker"
        self.close_reason: str | None = None
        self._finished = asyncio.Event()

    def __await__(self) -> Any:
        return self.start().__await__()

    async def start(self) -> FakeWorker:
        self.leave_a_file()
        self.address = f"pid://{os.getpid()}"
        behaviour = getattr(self, f"be_{self.name}".replace("-", "_"), None)
        if behaviour is not None:
            behaviour()
        return self

    def leave_a_file(self) -> None:
        Path(self.options["local_directory"], "file").write_text("left behind")

    def be_failing(self) -> None:
        raise ValueError("no such scheduler")

    def be_dying(self) -> None:
        asyncio.get_running_loop().call_later(0.01, os._exit, 7)

    def be_dying_at_start(self) -> None:
        os._exit(8)

    def be_failing_later(self) -> None:
        before = os.environ["COUNTER"]
        count = int(Path(before).read_text() or 0)
        Path(before).write_text(str(count + 1))
        if count > 0:
            raise ValueError("not again")

    def be_stubborn(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        asyncio.get_running_loop().call_later(0.01, hold_the_gil)

    def be_closing(self) -> None:
        asyncio.get_running_loop().call_later(0.01, self._finished.set)

    def be_hungry(self) -> None:
        self.memory = bytearray(os.urandom(1)) * 300_000_000

    def be_executing(self) -> None:
        page = ExecutingPage(os.path.join(self.options["local_directory"], "executing"))
        struct.pack_into("<QQ", page.memory, 32, 77, 1 << 32 | 2)
        self.executing_page_path = page.path

    def be_talking(self) -> None:
        print("hello")

    def be_threaded(self) -> None:
        threading.Thread(target=threading.Event().wait).start()

    async def close(self, reason: str = "") -> None:
        self.close_reason = reason
        self._finished.set()

    async def finished(self) -> None:
        await self._finished.wait()


def hold_the_gil() -> None:
    """Compute without ever giving other threads a turn."""
    sys.setswitchinterval(1e6)
    while True:
        pass
