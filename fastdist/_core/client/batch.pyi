from collections.abc import Callable, Iterable
from typing import Any, final

from fastdist._core.client.futures import FutureSlot, FutureTable

NO_OPTIONS: int
WANTED: int
INLINE: int

@final
class TaskBatch:
    def __init__(
        self,
        table: FutureTable,
        send: Callable[[bytes], object],
        lock: Any,
        encode_fallback: Callable[[tuple[Any, ...], dict[str, Any], type], tuple[bytes, list[FutureSlot]]],
        is_new_function: Callable[[bytes], bool],
        make_room: Callable[[], object] | None = None,
        submission: int = 0,
        fifo_timeout: int = 100_000,
        max_bytes: int = 8388608,
        limit: int = 2147483648,
    ) -> None: ...
    @property
    def table(self) -> FutureTable: ...
    nested: bool
    @property
    def frames(self) -> int: ...
    def add_function(self, hash: bytes, payload: bytes) -> int: ...
    def add_options(self, packed: bytes) -> int: ...
    def map(
        self,
        rows: Iterable[tuple[Any, ...]],
        expected: int,
        make_key: Callable[[tuple[Any, ...]], bytes | None],
        make_other_key: Callable[[], bytes],
        kwargs: dict[str, Any],
        function: int,
        option: int = ...,
    ) -> list[Any]: ...
    def add(
        self,
        key: bytes,
        function: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] = ...,
        option: int = ...,
        expected: int = 1,
    ) -> Any: ...
    def add_reference(self, key: bytes) -> Any: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
