"""How TCP connections come to be: connecting, listening, and the handshake on both sides.

May import: fastdist.errors, fastdist.comm.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import socket
from typing import Any

from fastdist.comm.addresses import Address, bracketed, contact_host, unparse_address
from fastdist.comm.core import Limits, Listener, ListenOptions, counters, logger
from fastdist.comm.handshake import ClientHandshake, Role, ServerHandshake
from fastdist.comm.tcp import TcpComm, address_of, tune_socket
from fastdist.comm.token import Token
from fastdist.errors import AuthenticationError, HandshakeError, UnfinishedHandshakeError

_ACCEPTS_AT_ONCE = 64
_PAUSE_WITHOUT_DESCRIPTORS = 0.1
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


async def _converse(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    handshake: ClientHandshake | ServerHandshake,
    peer: str,
) -> None:
    """Carry a handshake over a socket to its end."""
    try:
        while True:
            outgoing = handshake.take_outgoing()
            if outgoing:
                await loop.sock_sendall(sock, outgoing)
            if handshake.done:
                return
            data = await loop.sock_recv(sock, handshake.missing)
            if not data:
                raise UnfinishedHandshakeError(f"{peer} hung up during the handshake; is it a fastdist process?")
            handshake.feed(data)
    except HandshakeError:
        refusal = handshake.take_outgoing()
        if refusal:
            await loop.sock_sendall(sock, refusal)
        raise
    except OSError as error:
        raise UnfinishedHandshakeError(
            f"the connection to {peer} broke during the handshake: {error.strerror}"
        ) from error


def _close(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    # A cancelled wait leaves its registration for one more turn of the loop; the number may be another socket
    # by then.
    if sock.fileno() >= 0 and not loop.is_closed():
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
    sock.close()


# ---- connecting --------------------------------------------------------------------------------------------


async def connect_tcp(
    parsed: Address, role: Role, token: Token | None, insecure: bool, limits: Limits
) -> TcpComm:
    """Connect and shake hands; the deadline for both is the caller's."""
    loop = asyncio.get_running_loop()
    address = str(parsed)
    handshake = ClientHandshake(role, token, insecure=insecure, peer=address)
    sock = await _connected_socket(loop, parsed)
    try:
        tune_socket(sock, limits)
        try:
            await asyncio.wait_for(_converse(loop, sock, handshake, address), limits.handshake_timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise UnfinishedHandshakeError(
                f"{address} did not finish the handshake in {limits.handshake_timeout:g} s; "
                "is it a fastdist process?"
            ) from None
        assert handshake.result is not None
        return TcpComm(sock, loop, handshake.result, limits)
    except BaseException:
        _close(loop, sock)
        raise


async def _connected_socket(loop: asyncio.AbstractEventLoop, parsed: Address) -> socket.socket:
    try:
        found = await loop.getaddrinfo(parsed.host or "localhost", parsed.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(f"cannot connect to {parsed}: the host is unknown ({error.strerror})") from error
    failure: OSError | None = None
    for family, kind, protocol, _, target in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, target)
            if sock.getsockname() == sock.getpeername():
                # With nobody listening on a port of the ephemeral range the kernel may connect a socket to
                # itself.
                raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
            return sock
        except OSError as error:
            failure = error
            _close(loop, sock)
        except BaseException:
            _close(loop, sock)
            raise
    assert failure is not None
    why = os.strerror(failure.errno).lower() if failure.errno else str(failure)
    raise type(failure)(f"cannot connect to {parsed}: {why}") from failure


# ---- listening ---------------------------------------------------------------------------------------------


class TcpListener(Listener):
    """Accepts connections and hands over those that authenticate in time."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, options: ListenOptions) -> None:
        host, port = sock.getsockname()[:2]
        self.address = unparse_address("tcp", contact_host(host), port)
        self.listen_address = unparse_address("tcp", host, port)
        self._sock = sock
        self._loop = loop
        self._options = options
        self._half_open: dict[asyncio.Task[None], None] = {}
        self._resume: asyncio.TimerHandle | None = None
        self._closed = False
        loop.add_reader(sock.fileno(), self._on_acceptable)

    def _on_acceptable(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, name = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(error)
                else:
                    logger.error("%s cannot accept a connection: %s", self.address, error)
                return
            sock.setblocking(False)
            self._make_place()
            task = self._loop.create_task(self._welcome(sock, address_of(name)))
            self._half_open[task] = None
            task.add_done_callback(functools.partial(self._settle, sock))

    def _pause(self, error: OSError) -> None:
        counters["accept-paused"] += 1
        logger.warning("%s pauses accepting connections: %s", self.address, error.strerror)
        self._loop.remove_reader(self._sock.fileno())
        self._resume = self._loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        if not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._on_acceptable)

    def _make_place(self) -> None:
        # The oldest goes: honest peers are through in a moment, so those that linger are the silent ones.
        if len(self._half_open) >= self._options.limits.max_half_open:
            counters["dropped-half-open"] += 1
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            oldest.cancel()

    async def _welcome(self, sock: socket.socket, peer: str) -> None:
        options = self._options
        try:
            tune_socket(sock, options.limits)
            handshake = ServerHandshake(
                options.token,
                epoch=options.epoch,
                insecure=options.insecure,
                roles=options.roles,
                admin_roles=options.admin_roles,
                role=options.role,
                peer=peer,
            )
            await asyncio.wait_for(
                _converse(self._loop, sock, handshake, peer), options.limits.handshake_timeout
            )
            assert handshake.result is not None
            comm = TcpComm(sock, self._loop, handshake.result, options.limits)
        except BaseException as error:
            _close(self._loop, sock)
            self._note_failure(peer, error)
            raise
        try:
            options.on_comm(comm)
        except BaseException:
            comm.abort()
            raise

    def _note_failure(self, peer: str, error: BaseException) -> None:
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            kind, reason = "handshake-timeout", f"{peer} did not finish the handshake in time"
        elif isinstance(error, AuthenticationError):
            kind, reason = "refused-authentication", str(error)
        elif isinstance(error, OSError):
            kind, reason = "refused-handshake", str(error)
        else:
            return
        counters[kind] += 1
        count = counters[kind]
        # A flood of attempts must not become a flood of lines: the 1st, 2nd, 4th, 8th, ... are told.
        level = logging.WARNING if count & (count - 1) == 0 else logging.DEBUG
        logger.log(level, "%s refused a connection (%s no. %d): %s", self.address, kind, count, reason)

    def _settle(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._half_open.pop(task, None)
        if task.cancelled():
            # A task that is cancelled before its first step never gets to close its socket.
            _close(self._loop, sock)
            return
        error = task.exception()
        if error is not None and not isinstance(error, (OSError, asyncio.TimeoutError)):
            logger.error("%s could not take a connection", self.address, exc_info=error)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        _close(self._loop, self._sock)
        tasks = list(self._half_open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<TcpListener {'closed' if self._closed else 'open'} {self.listen_address}>"


async def listen_tcp(parsed: Address, options: ListenOptions) -> TcpListener:
    """Bind the first free port asked for and take connections."""
    ServerHandshake(options.token, epoch=options.epoch, insecure=options.insecure)
    loop = asyncio.get_running_loop()
    family, target = await _place_to_bind(loop, parsed)
    for port in parsed.ports:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(parsed.host)))
            sock.bind((target[0], port, *target[2:]))
            sock.listen(options.limits.backlog)
            return TcpListener(sock, loop, options)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE and port != parsed.ports[-1]:
                continue
            where = f"tcp://{bracketed(parsed.host or '0.0.0.0')}:{port}"
            raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
    raise ValueError(f"{parsed} names no port")


async def _place_to_bind(
    loop: asyncio.AbstractEventLoop, parsed: Address
) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Family and address; without a host, all interfaces by IPv4 and, where the machine has it, by IPv6."""
    if not parsed.host and _has_both_families():
        return socket.AF_INET6, ("::", 0)
    try:
        found = await loop.getaddrinfo(parsed.host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(f"cannot listen on {parsed}: the host is unknown ({error.strerror})") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, target = found[0]
    return family, target


@functools.lru_cache(maxsize=1)
def _has_both_families() -> bool:
    """Whether one socket can serve IPv4 and IPv6 here; a machine may have IPv6 switched off."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
