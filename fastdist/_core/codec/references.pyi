from typing import Any, TypeVar, final

from typing_extensions import Self

_T = TypeVar("_T")

@final
class Dependency:
    @property
    def number(self) -> int: ...
    def __new__(cls, number: int) -> Self: ...
    def __reduce__(self) -> tuple[Any, tuple[int]]: ...

def replace_references(value: _T, reference_type: type | None, references: list[Any]) -> _T: ...
