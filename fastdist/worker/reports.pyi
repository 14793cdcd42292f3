import asyncio
from collections.abc import Callable
from typing import Any

from fastdist._core.worker.core import WorkerCore
from fastdist.worker.executing import ExecutingPage
from fastdist.worker.store import Store

class Reports:
    def __init__(
        self,
        core: WorkerCore,
        store: Store,
        *,
        send: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        page: ExecutingPage | None = None,
        **of_execution: Any,
    ) -> None: ...
    @property
    def core(self) -> WorkerCore: ...
    def begun(self, task_id: int) -> float | None: ...
    def release_page(self) -> None: ...
    def flush(self) -> None: ...
    def arm(self) -> None: ...
    def expect_work(self) -> None: ...
    def tick(self) -> None: ...
