from collections.abc import Callable
from typing import Any

def use_templates(
    functions: list[Callable[..., Any] | None],
    args: list[tuple[Any, ...] | None],
    kwargs: list[dict[str, Any] | None],
    odd_rows: list[int],
) -> None: ...
