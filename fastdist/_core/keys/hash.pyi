from collections.abc import Callable, Mapping
from typing import Any, final

def tokenize(*args: object, **kwargs: object) -> str: ...
def function_name(func: Callable[..., Any]) -> str: ...
def task_key(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> str | None: ...
@final
class KeyMaker:
    deterministic: bool
    name: str
    def __init__(
        self, func: Callable[..., Any], kwargs: Mapping[str, Any] | None = None, name: str | None = None
    ) -> None: ...
    def key(self, args: tuple[Any, ...]) -> bytes | None: ...
