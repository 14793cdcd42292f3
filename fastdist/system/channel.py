"""Messages between a process and the child it started, over their private socket.

A message is a msgpack map behind its length (u32, little-endian). The socket is inherited, never listened
on: whoever holds an end was given it by the parent.

May import: nothing of fastdist.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgpack

Message = dict[str, Any]

#: Longest message, in bytes; the environment and the import path of a process fit many times.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_LENGTH = struct.Struct("<I")


def encode(message: Message) -> bytes:
    """The bytes of one message.

    Raises
    ------
    ValueError
        The message is longer than `MAX_MESSAGE_BYTES`.
    """
    body: bytes = msgpack.packb(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is too long for a child; limit {MAX_MESSAGE_BYTES}")
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket) -> Message | None:
    """Wait for one message on a blocking socket; None when the other side is gone."""
    head = _receive_exactly(connection, _LENGTH.size)
    body = _receive_exactly(connection, _checked_length(head)) if head is not None else None
    return None if body is None else _decode(body)


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    content = bytearray()
    while len(content) < count:
        try:
            piece = connection.recv(count - len(content))
        except ConnectionResetError:
            return None
        if not piece:
            return None
        content += piece
    return bytes(content)


def _checked_length(head: bytes | bytearray) -> int:
    (length,) = _LENGTH.unpack_from(head)
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes was announced; limit {MAX_MESSAGE_BYTES}")
    return int(length)


def _decode(body: bytes) -> Message:
    message = msgpack.unpackb(body)
    if not isinstance(message, dict):
        raise ValueError(f"a message is a map, not {type(message).__name__}")
    return message


class Channel:
    """One end of the socket, on an event loop.

    Parameters
    ----------
    connection:
        The socket; the channel does not close it.
    on_message:
        Called with each message.
    on_closed:
        Called once when the other side is gone.
    """

    def __init__(
        self,
        connection: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], None],
        on_closed: Callable[[], None],
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._loop = loop
        self._on_message = on_message
        self._on_closed = on_closed
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._open = True
        loop.add_reader(connection.fileno(), self._read)

    def send(self, message: Message) -> bool:
        """Send a message as soon as the socket takes it; False if the other side is gone."""
        if not self._open:
            return False
        self._outgoing += encode(message)
        self._write()
        return self._open

    def drain(self) -> None:
        """Deliver what has arrived already; for a side that knows that the other one is gone."""
        while self._open and self._read():
            pass

    def close(self) -> None:
        """Stop reading and writing."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())

    def _write(self) -> None:
        try:
            sent = self._connection.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reading side tells that the other end is gone, after what it still had to say.
            self._outgoing.clear()
            return
        del self._outgoing[:sent]
        if self._outgoing:
            self._loop.add_writer(self._connection.fileno(), self._write)
        else:
            self._loop.remove_writer(self._connection.fileno())

    def _read(self) -> bool:
        """Deliver what one look at the socket gives; False if that is nothing."""
        try:
            piece = self._connection.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            piece = b""
        if not piece:
            self.close()
            self._on_closed()
            return False
        self._incoming += piece
        with contextlib.closing(_messages(self._incoming)) as messages:
            for message in messages:
                self._on_message(message)
        return True


def _messages(incoming: bytearray) -> Any:
    """Take the complete messages from the front of `incoming`."""
    while len(incoming) >= _LENGTH.size:
        end = _LENGTH.size + _checked_length(incoming[: _LENGTH.size])
        if len(incoming) < end:
            return
        body = bytes(incoming[_LENGTH.size : end])
        del incoming[:end]
        yield _decode(body)
