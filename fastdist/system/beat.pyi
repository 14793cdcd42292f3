import socket
from typing import final

BEAT_BYTES: int

@final
class Beat:
    def __init__(self, sock: socket.socket, epoch: int, number: int, seconds: float) -> None: ...
    def close(self) -> None: ...
