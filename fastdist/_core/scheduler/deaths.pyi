"""Workers that died: which tasks were executing there, and what their nannies said."""

from typing import Any, final

@final
class DeathNotes:
    def of(self, id: int) -> list[dict[str, Any]]: ...
    def waits(self, id: int) -> str | None: ...
