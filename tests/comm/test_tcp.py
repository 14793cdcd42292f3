"""What only sockets do: foreign peers, silence, ports, lost loops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastdist.comm import Comm, Limits, Listener, Role, Token, connect, counters, listen, parse_address
from fastdist.comm.handshake import ClientHandshake, ServerHandshake
from fastdist.errors import AuthenticationError, CommClosedError, FrameError, HandshakeError

HOST = "tcp://127.0.0.1"
Opener = Callable[..., Any]


async def open_listener(token: Token | None, **options: Any) -> Listener:
    options.setdefault("on_comm", lambda comm: comm.abort())
    return await listen(options.pop("address", f"{HOST}:0"), token=token, **options)


async def talk(address: str, data: bytes) -> bytes:
    """Send raw bytes to a listener; what it answers until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", parse_address(address).port)
    writer.write(data)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


def test_a_wrong_token_is_an_authentication_error_that_says_where_the_token_came_from(token: Token) -> None:
    async def main() -> None:
        before = counters["refused-handshake"]
        listener = await open_listener(token)
        with pytest.raises(
            AuthenticationError, match=f"{listener.address} does not hold the same token.*from a file"
        ):
            await connect(listener.address, role=Role.CLIENT, token=Token.generate("from a file"), retry=True)
        await wait_until(lambda: counters["refused-handshake"] == before + 1)
        await listener.close()

    asyncio.run(main())


async def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to pass")


def test_insecure_mode_must_be_on_both_sides(token: Token) -> None:
    async def main() -> None:
        secure, insecure = await open_listener(token), await open_listener(None, insecure=True)
        comm = await connect(insecure.address, role=Role.CLIENT, token=None, insecure=True)
        comm.abort()
        with pytest.raises(AuthenticationError, match="asks for a token"):
            await connect(secure.address, role=Role.CLIENT, token=None, insecure=True)
        with pytest.raises(AuthenticationError, match="runs in insecure mode"):
            await connect(insecure.address, role=Role.CLIENT, token=token)
        with pytest.raises(ValueError, match="a token is needed"):
            await connect(secure.address, role=Role.CLIENT, token=None)
        with pytest.raises(ValueError, match="a token is needed"):
            await open_listener(None)
        await secure.close()
        await insecure.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x3c" + bytes(7), b"\x16\x03\x01", b"F" * 1000, b"FASTDIST" + b"\xff" * 40],
)
def test_a_foreign_protocol_is_hung_up_on_and_the_listener_goes_on(data: bytes, token: Token) -> None:
    async def main() -> None:
        comms: list[Comm] = []
        listener = await open_listener(token, on_comm=comms.append)
        assert len(await talk(listener.address, data)) <= 256
        assert comms == []
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        await wait_until(lambda: len(comms) == 1)
        comm.abort()
        comms[0].abort()
        await listener.close()

    asyncio.run(main())


def test_a_server_of_another_kind_is_named(token: Token) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(web, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(
            HandshakeError, match=rf"{HOST}:{port} does not speak the fastdist protocol .it speaks HTTP"
        ):
            await connect(f"{HOST}:{port}", role=Role.CLIENT, token=token)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_silent_server_is_given_up_after_the_handshake_deadline(token: Token) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"{HOST}:{silent.getsockname()[1]}"
            with pytest.raises(HandshakeError, match=r"did not finish the handshake in 0\.05 s"):
                await connect(address, role=Role.CLIENT, token=token, limits=Limits(handshake_timeout=0.05))
            with pytest.raises(TimeoutError, match=f"timed out connecting to {address} after 0.05 s"):
                await connect(address, role=Role.CLIENT, token=token, timeout=0.05)

    asyncio.run(main())


def test_who_tries_again_outlasts_a_listener_that_does_not_answer(token: Token) -> None:
    limits = Limits(handshake_timeout=0.05)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            connecting = asyncio.ensure_future(
                connect(f"{HOST}:{port}", role=Role.CLIENT, token=token, limits=limits, retry=True)
            )
            loop = asyncio.get_running_loop()
            # One that hangs up, too: the second attempt has come once the first was given up.
            silent.setblocking(False)
            for _ in range(2):
                (await loop.sock_accept(silent))[0].close()
        listener = await open_listener(token, address=f"{HOST}:{port}")
        (await connecting).abort()
        await listener.close()

    asyncio.run(main())


def test_who_tries_again_is_told_of_a_refusal_at_once(token: Token) -> None:
    async def main() -> None:
        listener = await open_listener(token)
        with pytest.raises(AuthenticationError):
            await connect(listener.address, role=Role.CLIENT, token=Token.generate("another"), retry=True)
        await listener.close()

    asyncio.run(main())


def test_a_silent_client_is_dropped_after_the_handshake_deadline(token: Token) -> None:
    async def main() -> None:
        before = counters["handshake-timeout"]
        listener = await open_listener(token, limits=Limits(handshake_timeout=0.05))
        assert await talk(listener.address, b"FASTDIST") == b""
        assert counters["handshake-timeout"] == before + 1
        await listener.close()

    asyncio.run(main())


def test_silent_clients_cannot_keep_others_out(token: Token) -> None:
    async def main() -> None:
        before = counters["dropped-half-open"]
        comms: list[Comm] = []
        listener = await open_listener(
            token, on_comm=comms.append, limits=Limits(max_half_open=4, handshake_timeout=100)
        )
        port = parse_address(listener.address).port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        await wait_until(lambda: len(comms) == 1)
        assert counters["dropped-half-open"] >= before + 8
        assert await asyncio.wait_for(silent[0][0].read(), 10) == b""
        comm.abort()
        comms[0].abort()
        await listener.close()
        for _, writer in silent:
            writer.close()

    asyncio.run(main())


def test_nothing_is_read_beyond_the_handshake_of_an_unauthenticated_peer(token: Token) -> None:
    """A client that sends a frame along with its hello is refused, and the frame reaches nobody."""

    async def main() -> None:
        comms: list[Comm] = []
        listener = await open_listener(token, on_comm=comms.append)
        hello = ClientHandshake(Role.CLIENT, token).take_outgoing()
        await talk(listener.address, hello + bytes(32) + b"\x05" + bytes(1000))
        assert comms == []
        await listener.close()

    asyncio.run(main())


@pytest.mark.parametrize("junk", [b"\xff" * 16, bytes(16), b"\x01\x00\x00\x00" + bytes(4) + b"\xff" * 8])
def test_a_malformed_frame_closes_that_connection_with_a_counted_reason(
    junk: bytes, ends: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0") as pair, ends(f"{HOST}:0") as bystander:
            before = counters["malformed-frame"]
            pair.near._sock.send(junk)
            await pair.until(lambda: bool(pair.closed[pair.far] and pair.closed[pair.near]))
            assert isinstance(pair.closed[pair.far][0], FrameError)
            assert counters["malformed-frame"] == before + 1
            bystander.near.send(5, b"y")
            await bystander.until(lambda: bool(bystander.received[bystander.far]))

    asyncio.run(main())
    assert "closing the connection to tcp://127.0.0.1" in caplog.text


def test_a_connection_that_breaks_inside_a_frame_says_so(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0") as pair:
            pair.near._sock.send(b"\x05" + bytes(7) + b"\x64" + bytes(7) + b"half")
            pair.near.abort()
            await pair.until(lambda: bool(pair.closed[pair.far]))
            assert "in the middle of a frame" in str(pair.closed[pair.far][0])

    asyncio.run(main())


def test_a_reset_connection_fails_the_sender_with_the_peer_named(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0", start=False) as pair:
            pair.far._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00" + bytes(4))
            pair.far.abort()
            pair.start(pair.near)
            await pair.until(lambda: bool(pair.closed[pair.near]))
            with pytest.raises(CommClosedError, match="is closed"):
                pair.near.send(5, b"x")
            assert pair.far.local_address in str(pair.closed[pair.near][0])

    asyncio.run(main())


def test_a_failing_send_from_a_thread_closes_and_raises(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0", start=False) as pair:
            pair.near._sock.shutdown(socket.SHUT_WR)
            pair.start(pair.far)
            with pytest.raises(CommClosedError, match=f"the connection to {pair.listener.address} broke"):
                await asyncio.to_thread(pair.near.send, 5, b"x")
            pair.start(pair.near)
            await pair.until(lambda: bool(pair.closed[pair.near]))
            assert len(pair.closed[pair.near]) == 1

    asyncio.run(main())


def test_a_finalizer_that_sends_while_another_send_is_under_way_goes_behind_it(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0") as pair:
            comm, real = pair.near, pair.near._sock

            class Interrupting:
                """Lets another send start in the middle of a system call that takes half a frame."""

                nested = False

                def send(self, frame: bytes) -> int:
                    if self.nested:
                        return real.send(frame)
                    self.nested = True
                    sent = real.send(frame[:20])
                    comm.send(6, b"nested")
                    return sent

                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

            comm._sock = Interrupting()
            comm.send(5, b"outer frame")
            await pair.until(lambda: len(pair.received[pair.far]) == 2)
            assert pair.received[pair.far] == [(5, b"outer frame"), (6, b"nested")]

    asyncio.run(main())


def test_an_interrupt_in_the_middle_of_a_send_closes_the_connection(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0") as pair:
            real = pair.near._sock

            class Interrupting:
                def send(self, frame: bytes) -> int:
                    real.send(frame[:20])
                    raise KeyboardInterrupt

                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

            pair.near._sock = Interrupting()
            with pytest.raises(KeyboardInterrupt):
                pair.near.send(5, b"outer frame")
            await pair.until(lambda: bool(pair.closed[pair.near] and pair.closed[pair.far]))
            assert "interrupted in the middle" in str(pair.closed[pair.near][0])
            assert pair.received[pair.far] == []

    asyncio.run(main())


def test_a_cancelled_close_still_closes(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0", start=False) as pair:
            pair.start(pair.near)
            pair.near.send(5, bytes(30 << 20))
            closing = asyncio.ensure_future(pair.near.close(timeout=60))
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await pair.until(lambda: bool(pair.closed[pair.near]))
            assert pair.near.queued_bytes == 0

    asyncio.run(main())


def test_close_gives_up_flushing_after_its_timeout(ends: Opener) -> None:
    async def main() -> None:
        async with ends(f"{HOST}:0", start=False) as pair:
            pair.start(pair.near)
            pair.near.send(5, bytes(30 << 20))
            assert pair.near.queued_bytes > 0
            before = counters["unflushed-close"]
            await pair.near.close(timeout=0.02)
            assert counters["unflushed-close"] == before + 1
            assert pair.near.queued_bytes == 0

    asyncio.run(main())


def test_a_port_of_a_range_and_a_range_that_is_full(token: Token) -> None:
    async def main() -> None:
        first = await open_listener(token)
        port = parse_address(first.address).port
        second = await open_listener(token, address=f"{HOST}:{port}:{min(port + 20, 65535)}")
        assert port < parse_address(second.address).port <= port + 20
        with pytest.raises(
            OSError, match=f"cannot listen on {HOST}:{port}: Address already in use"
        ) as caught:
            await open_listener(token, address=f"{HOST}:{port}:{port}")
        assert caught.value.errno == errno.EADDRINUSE
        await first.close()
        await second.close()

    asyncio.run(main())


def can_bind_to(host: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def test_all_interfaces_give_an_address_that_can_be_reached(token: Token) -> None:
    async def main() -> None:
        listener = await open_listener(token, address="tcp://:0")
        where, _, port = listener.listen_address.rpartition(":")
        assert where in ("tcp://[::]", "tcp://0.0.0.0")
        assert "0.0.0.0" not in listener.address and "::" not in listener.address
        addresses = [listener.address, f"tcp://127.0.0.1:{port}"]
        if where == "tcp://[::]" and can_bind_to("::1"):
            addresses.append(f"tcp://[::1]:{port}")
        for address in addresses:
            comm = await connect(address, role=Role.CLIENT, token=token)
            assert "::ffff" not in comm.local_address
            comm.abort()
        await listener.close()

    asyncio.run(main())


def test_an_unknown_host_is_named(token: Token) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"tcp://nonesuch.invalid:1: the host is unknown"):
            await connect("tcp://nonesuch.invalid:1", role=Role.CLIENT, token=token)
        with pytest.raises(OSError, match="the host is unknown"):
            await open_listener(token, address="tcp://nonesuch.invalid:0")

    asyncio.run(main())


def test_retry_waits_for_a_listener_that_comes_later(token: Token) -> None:
    async def main() -> None:
        first = await open_listener(token)
        address = first.address
        await first.close()
        connecting = asyncio.ensure_future(
            connect(address, role=Role.CLIENT, token=token, timeout=30, retry=True)
        )
        await asyncio.sleep(0)
        listener = await open_listener(token, address=address)
        (await connecting).abort()
        await listener.close()

    asyncio.run(main())


def test_out_of_descriptors_pauses_accepting_and_goes_on(
    token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted:
        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.failures = sock, 2

        def accept(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    async def main() -> None:
        before = counters["accept-paused"]
        listener = await open_listener(token)
        listener._sock = Exhausted(listener._sock)  # type: ignore[attr-defined]
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        comm.abort()
        assert counters["accept-paused"] == before + 2
        await listener.close()

    asyncio.run(main())
    assert "pauses accepting connections: Too many open files" in caplog.text


def test_a_listener_that_fails_to_take_a_comm_logs_it_and_goes_on(
    token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(comm: Comm) -> None:
        raise RuntimeError("no room")

    async def main() -> None:
        listener = await open_listener(token, on_comm=fail)
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        comm.start(lambda *frame: None, lambda *message: None, closed.set_result)
        await closed
        await listener.close()

    asyncio.run(main())
    assert "no room" in caplog.text


def test_closing_when_the_loop_is_gone_releases_the_socket(token: Token) -> None:
    kept: list[Comm] = []

    async def main() -> None:
        listener = await open_listener(token, on_comm=kept.append)
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        await wait_until(lambda: len(kept) == 1)
        comm.send(5, bytes(30 << 20))
        kept.append(comm)
        await listener.close()

    asyncio.run(main())
    silent, comm = kept
    assert comm.queued_bytes > 0

    thread = threading.Thread(target=comm.abort)
    thread.start()
    thread.join()
    silent.abort()
    assert comm.closed and comm.queued_bytes == 0
    with pytest.raises(CommClosedError):
        comm.send(5, b"")


def test_it_runs_on_uvloop(token: Token) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        comms: list[Comm] = []
        listener = await open_listener(token, on_comm=comms.append)
        near = await connect(listener.address, role=Role.CLIENT, token=token)
        await wait_until(lambda: len(comms) == 1)
        got: list[bytes] = []
        comms[0].start(lambda kind, body: got.append(bytes(body)), lambda *message: None, lambda reason: None)
        near.start(lambda *frame: None, lambda *message: None, lambda reason: None)
        body = bytes(range(256)) * 20_000
        await asyncio.to_thread(near.send, 5, body)
        near.send(5, b"last")
        await wait_until(lambda: len(got) == 2)
        assert got == [body, b"last"]
        await near.close()
        await comms[0].close()
        await listener.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
        gc.collect()


def test_the_server_side_handshake_can_be_driven_over_a_plain_socket(token: Token) -> None:
    """An independent client, written against the documented sizes only, gets through."""

    async def main() -> None:
        comms: list[Comm] = []
        listener = await open_listener(token, on_comm=comms.append, epoch=99)
        reader, writer = await asyncio.open_connection("127.0.0.1", parse_address(listener.address).port)
        handshake = ClientHandshake(Role.WORKER, token)
        writer.write(handshake.take_outgoing())
        handshake.feed(await reader.readexactly(80))
        writer.write(handshake.take_outgoing())
        handshake.feed(await reader.readexactly(48))
        assert handshake.result is not None and handshake.result.epoch == 99
        await wait_until(lambda: len(comms) == 1)
        assert comms[0].role is Role.WORKER and not comms[0].admin
        comms[0].abort()
        writer.close()
        await listener.close()

    asyncio.run(main())


def test_a_server_that_does_not_hold_the_token_learns_nothing(token: Token) -> None:
    """The client proves nothing to a server that cannot prove itself first."""

    async def main() -> None:
        seen = bytearray()

        async def squat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.extend(await reader.readexactly(48))
            impostor = ServerHandshake(Token.generate("of a squatter"), epoch=1)
            impostor.feed(bytes(seen))
            writer.write(impostor.take_outgoing())
            seen.extend(await reader.read())
            writer.close()

        server = await asyncio.start_server(squat, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AuthenticationError):
            await connect(f"{HOST}:{port}", role=Role.CLIENT, token=token)
        await wait_until(lambda: len(seen) >= 48)
        assert len(seen) == 48
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_connection_that_comes_while_the_listener_closes_leaks_no_socket() -> None:
    async def close_at_once() -> bytes:
        listener = await listen("tcp://127.0.0.1:0", token=Token.generate(), on_comm=lambda comm: comm.abort())
        host, _, port = listener.address.rpartition("://")[2].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as caller:
            # Taken, but its task has not had its first step when the listener closes.
            listener._on_acceptable()  # type: ignore[attr-defined]
            (task,) = listener._half_open  # type: ignore[attr-defined]
            await listener.close()
            assert task.cancelled()
            return caller.recv(1)

    assert asyncio.run(close_at_once()) == b""
