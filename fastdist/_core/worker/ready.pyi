from typing import final

@final
class ReadyQueue:
    @property
    def live(self) -> int: ...
