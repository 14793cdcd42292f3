"""The parts of the chaos harness: which cells are chosen, what a ledger shows, what the proxy does to bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.__main__ import table
from tests.chaos.ledger import Ledger, note
from tests.chaos.matrix import FAULTS, WORKLOADS, Cell, choose_cells
from tests.chaos.proxy import Proxy


def test_rows_columns_and_cells_are_chosen_in_the_order_of_the_matrix() -> None:
    assert [str(cell) for cell in choose_cells("F3-W4, F1-W2")] == ["F1-W2", "F3-W4"]
    assert {cell.workload for cell in choose_cells("F2")} == set(WORKLOADS)
    assert {cell.fault for cell in choose_cells("W6")} == set(FAULTS)
    assert len(choose_cells("")) == 72


@pytest.mark.parametrize("text", ["F13", "W0", "F1-W7", "F1-", "x"])
def test_what_names_no_cell_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a fault"):
        choose_cells(text)


def test_a_cell_that_passes_only_sometimes_has_failed() -> None:
    found = {Cell("F1", "W1"): {"passed"}, Cell("F1", "W2"): {"passed", "hung"}, Cell("F1", "W3"): {"skipped"}}
    assert table(found).splitlines()[2] == "| F1 kill -9 of a worker | + | - | . |  |  |  |"


def test_the_ledger_tells_avoidable_runs_from_others(tmp_path: Path) -> None:
    ledger = Ledger()
    for moment, pid, key in [(1.0, 1, "kept"), (1.0, 2, "lost"), (1.0, 2, "cut")]:
        ledger.starts[key].append((moment, pid))
    for key, pid in (("kept", 1), ("lost", 2)):
        ledger.ends[key].append((2.0, pid))
    for key in ("kept", "lost", "cut"):
        ledger.starts[key].append((4.0, 1))
    assert ledger.reruns() == 3
    assert ledger.avoidable(dead=[2]) == ["kept"]
    assert ledger.recovery(dead=[2], since=3.5) == 0.5
    assert ledger.recovery(dead=[], since=3.5) is None


def test_notes_of_a_process_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    assert Ledger.read(path).reruns() == 0
    for event in ("start", "end", "start"):
        note(str(path), event, "a key with blanks")
    ledger = Ledger.read(path)
    assert ledger.reruns() == 1 and len(ledger.ends["a key with blanks"]) == 1


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                sock = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=repeat, args=(sock,), daemon=True).start()

    def repeat(sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(1 << 16):
                    sock.sendall(data)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def ask(sock: socket.socket, data: bytes) -> bytes:
    """Send and read as much back."""
    sock.sendall(data)
    received = b""
    while len(received) < len(data) and (piece := sock.recv(1 << 16)):
        received += piece
    return received


def test_the_proxy_carries_bytes_in_order_and_late(echo: int) -> None:
    with Proxy("127.0.0.1", echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 10) as sock:
        assert ask(sock, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
        proxy.weather.delay = 0.02
        begin = time.monotonic()
        assert ask(sock, b"x") == b"x"
        assert time.monotonic() - begin >= 0.04
        assert proxy.connections() == 1


def test_what_the_proxy_stalls_comes_once_it_is_healed(echo: int) -> None:
    with Proxy("127.0.0.1", echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 10) as sock:
        assert ask(sock, b"x") == b"x"
        proxy.weather.stalled_down = True
        sock.sendall(b"y")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.weather.stalled_down = False
        sock.settimeout(10)
        assert sock.recv(1) == b"y"


def test_the_proxy_resets_connections_at_once_or_in_the_middle(echo: int) -> None:
    with Proxy("127.0.0.1", echo) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as sock:
            assert ask(sock, b"x") == b"x"
            assert proxy.cut() == 1
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as sock:
            assert ask(sock, b"x") == b"x"
            proxy.truncate(5)
            with pytest.raises(ConnectionResetError):
                ask(sock, bytes(100))
                sock.recv(1)
