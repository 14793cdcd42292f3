from enum import IntFlag
from typing import Any

from typing_extensions import Buffer

class Encoding(IntFlag):
    ENCODED = 1
    PICKLED = 2
    BUFFERS = 3

ARGUMENTS_LIMIT: int
MAX_BUFFERS: int

def dependency(number: int) -> Any: ...
def encode_value(value: object, limit: int = ...) -> bytes | None: ...
def encode_call(
    args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, reference_type: type | None = None
) -> tuple[bytes, list[Any]] | None: ...
def decode_value(payload: Buffer) -> Any: ...
def decode_call(payload: Buffer, inputs: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]: ...
def own_buffer(buffer: memoryview) -> memoryview | bytearray: ...
