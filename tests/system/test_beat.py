"""Signs of life from a native thread. May import: fastdist.system.beat."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from fastdist.system.beat import BEAT_BYTES, Beat

RECORD = struct.Struct("<QII")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    there.settimeout(30)
    with here, there:
        yield here, there


def read(sock: socket.socket, count: int) -> list[tuple[int, int, int]]:
    data = b""
    while len(data) < count * BEAT_BYTES:
        data += sock.recv(count * BEAT_BYTES - len(data))
    return [RECORD.unpack_from(data, i * BEAT_BYTES) for i in range(count)]


def test_each_sign_says_who_lives_and_counts(pair: tuple[socket.socket, socket.socket]) -> None:
    beat = Beat(pair[0], 1 << 62, 7, 0.001)
    assert read(pair[1], 3) == [(1 << 62, 7, 0), (1 << 62, 7, 1), (1 << 62, 7, 2)]
    beat.close()


def test_it_goes_on_while_the_gil_is_held(pair: tuple[socket.socket, socket.socket]) -> None:
    beat = Beat(pair[0], 1, 1, 0.001)
    before = read(pair[1], 1)[0][2]
    ctypes.PyDLL(None).usleep(100_000)
    pair[1].setblocking(False)
    received = pair[1].recv(1 << 20)
    beat.close()
    assert len(received) // BEAT_BYTES > 10 + before


def test_closing_ends_the_thread_and_the_connection_and_twice_is_harmless(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    beat = Beat(pair[0], 1, 1, 60.0)
    read(pair[1], 1)
    beat.close()
    beat.close()
    assert pair[1].recv(100) == b""


def test_nobody_at_the_other_end_ends_nothing_else(pair: tuple[socket.socket, socket.socket]) -> None:
    beat = Beat(pair[0], 1, 1, 0.001)
    pair[1].close()
    ctypes.CDLL(None).usleep(10_000)
    beat.close()


def test_the_child_of_a_fork_cannot_end_it(pair: tuple[socket.socket, socket.socket]) -> None:
    beat = Beat(pair[0], 1, 1, 0.001)
    child = os.fork()
    if not child:
        signal.alarm(10)
        beat.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    count = read(pair[1], 1)[0][2]
    assert read(pair[1], 300)[-1][2] == count + 300
    beat.close()
