"""What a connection is: the interface of `Comm` and `Listener`, their limits, and `connect` and `listen`.

A comm carries *frames* (a kind and bytes; docs/wire.md) and *control messages* (a map and buffers). It may be
sent to from any thread; what arrives is handed over synchronously in the thread of its event loop. May
import: fastdist.errors, fastdist.config, fastdist.comm.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastdist import config
from fastdist.aliases import names_of
from fastdist.comm.addresses import Address, parse_address
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import CommClosedError, HandshakeError, UnfinishedHandshakeError

logger = logging.getLogger("fastdist.comm")

CONTROL = 1
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

BytesLike = bytes | bytearray | memoryview
OnFrame = Callable[[int, memoryview], None]
OnControl = Callable[[dict[str, Any], list[Any]], None]
OnClose = Callable[[Exception | None], None]

#: How often what happened, by a closed set of names; for metrics and tests.
counters: Counter[str] = Counter()


@dataclass(frozen=True)
class Limits:
    """The bounds of one connection.

    Attributes
    ----------
    max_frame_bytes : int
        The longest columnar frame, sent or received. Their offsets are 32-bit, so a column must stay below 4
        GiB.
    max_control_bytes : int
        The longest control message with its buffers; these carry whole results between workers.
    high_water : int
        Above this many queued bytes `drained()` waits.
    max_queued_bytes : int
        A peer that lets more than this queue up, on top of one frame of any size, is dropped.
    max_buffers : int
        How many buffers a control message may have, its map included.
    max_map_bytes, max_map_depth, max_map_items, max_text_bytes : int
        Bounds of the map of a control message: its size, its nesting, the items of each container, each text.
    read_buffer_bytes : int
        The size of the reused read buffer.
    handshake_timeout, close_timeout, user_timeout : float
        Seconds for the handshake, for flushing at close, and until unacknowledged data drops the peer.
    max_half_open : int
        How many connections of one listener may be in their handshake.
    backlog : int
        How many connections the kernel may hold before they are accepted.
    """

    max_frame_bytes: int = 2 * GIB
    max_control_bytes: int = 8 * GIB
    high_water: int = 64 * MIB
    max_queued_bytes: int = 256 * MIB
    max_buffers: int = 65536
    max_map_bytes: int = 64 * MIB
    max_map_depth: int = 64
    max_map_items: int = 4_000_000
    max_text_bytes: int = 16 * MIB
    read_buffer_bytes: int = 256 * KIB
    handshake_timeout: float = 5.0
    close_timeout: float = 1.0
    user_timeout: float = 30.0
    max_half_open: int = 256
    backlog: int = 2048

    @classmethod
    def from_config(cls) -> Limits:
        """The limits that the settings under `comm` state."""
        return cls(
            max_frame_bytes=config.get("comm.max-frame-bytes"),
            max_control_bytes=config.get("comm.max-message-bytes"),
            high_water=config.get("comm.high-water"),
            max_queued_bytes=config.get("comm.max-queued-bytes"),
            handshake_timeout=config.get("comm.timeouts.handshake"),
            user_timeout=config.get("comm.timeouts.tcp"),
            backlog=config.get("comm.socket-backlog"),
        )

    def check_length(self, kind: int, length: int) -> str | None:
        """What is wrong with a body of this length, if anything."""
        limit = self.max_control_bytes if kind == CONTROL else self.max_frame_bytes
        if length <= limit:
            return None
        name = "max_control_bytes" if kind == CONTROL else "max_frame_bytes"
        return f"a frame of kind {kind} has {length} bytes; the limit is {limit} ({name})"


def slow_peer_error(address: str, queued: int, limits: Limits) -> CommClosedError:
    """Counts and describes the loss of a peer that does not read."""
    counters["dropped-slow-peer"] += 1
    return CommClosedError(
        f"{address} was dropped: it does not read, {queued} bytes are queued for it "
        f"(limit {limits.max_queued_bytes}, max_queued_bytes)"
    )


class Comm(ABC):
    """One authenticated connection.

    Attributes
    ----------
    local_address, peer_address : str
        The two ends.
    role : Role
        What the other side is.
    epoch : int
        The epoch that the listening side stated.
    admin : bool
        Whether the connecting side has the admin right.
    in_process : bool
        Whether both ends live in this process, so that control messages pass by reference.
    limits : Limits
        The bounds of this connection.
    """

    in_process = False
    local_address: str
    peer_address: str
    role: Role
    epoch: int
    admin: bool
    limits: Limits

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""

    @property
    @abstractmethod
    def queued_bytes(self) -> int:
        """How many bytes wait for the other side to read."""

    def detach(self) -> socket.socket:
        """Give away the authenticated socket, non-blocking, instead of starting; the comm is of no use afterwards.

        Raises
        ------
        RuntimeError
            If it was started, or has no socket.
        """
        raise RuntimeError(f"{self!r} has no socket to give away")

    @abstractmethod
    def start(self, on_frame: OnFrame, on_control: OnControl, on_close: OnClose) -> None:
        """Begin to deliver, in the thread of the running event loop; nothing is read before.

        Parameters
        ----------
        on_frame : callable
            Called with the kind and the body of each columnar frame. The body starts at a multiple of 8 bytes
            and is valid during the call only: it is overwritten afterwards.
        on_control : callable
            Called with the map and the list of buffers of each control message; these are the callee's to
            keep.
        on_close : callable
            Called exactly once, with None after `close()` or `abort()` of this side, else with the reason.

        An exception from `on_frame` or `on_control` closes this connection with that reason.
        """

    @abstractmethod
    def send(self, kind: int, *parts: BytesLike) -> None:
        """Send one columnar frame; from any thread.

        Parameters
        ----------
        kind : int
            The `FrameKind`.
        *parts : bytes-like
            The pieces of the body. They are kept by reference until they are sent and must not change.

        Raises
        ------
        CommClosedError
            If the connection is closed, or is dropped now because the other side does not read.
        FrameError
            If the frame is over the limit; the connection stays.
        """

    def send_all(self, frames: Sequence[tuple[int, bytes]]) -> None:
        """Send columnar frames, each a kind and a body, in as few system calls as possible; raises as `send` does."""
        for kind, body in frames:
            self.send(kind, body)

    @abstractmethod
    def send_control(self, message: dict[str, Any], buffers: Iterable[Any] = ()) -> None:
        """Send one control message; from any thread.

        Parameters
        ----------
        message : dict
            What msgpack can encode, with `op`.
        buffers : iterable
            Opaque payloads: bytes-like, or inside one process any object.

        Raises
        ------
        CommClosedError, FrameError
            As for `send`.
        """

    def read_until(self, done: Callable[[], bool], timeout: float | None) -> None:  # noqa: B027
        """Receive in the calling thread, in place of the event loop's, until `done()`.

        A thread that waits for a message gets it sooner if it takes it from the system itself. It returns earlier
        where that is not possible, is done by another thread already, or the connection closes: then wait for
        whatever `done` looks at. `on_frame` is called in the calling thread, everything else as ever.

        Parameters
        ----------
        done : callable
            Asked before each look at the system.
        timeout : float, optional
            Seconds.
        """

    def reader_descriptor(self) -> int:
        """An eventfd; a write to it does what `wake_reader` does, from code without Python. -1 if there is none."""
        return -1

    def wake_reader(self) -> None:  # noqa: B027
        """Have the thread that is in `read_until` ask `done()` again."""

    @abstractmethod
    async def drained(self) -> None:
        """Wait until the queue is below the high-water mark.

        Raises
        ------
        CommClosedError
            If the connection closes meanwhile.
        """

    @abstractmethod
    async def close(self, timeout: float | None = None) -> None:
        """Send what is queued, for `timeout` seconds at most (default `Limits.close_timeout`), and close."""

    @abstractmethod
    def abort(self, reason: Exception | None = None) -> None:
        """Close at once, dropping what is queued; from any thread. `on_close` gets the reason."""

    def closed_error(self) -> CommClosedError:
        """The error for a send on this closed connection."""
        return CommClosedError(f"the connection to {self.peer_address} is closed")

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        ends = f"{self.local_address} -> {self.peer_address}"
        return f"<{type(self).__name__} {state} {ends} ({self.role.name.lower()})>"


class Listener(ABC):
    """Takes connections.

    Attributes
    ----------
    address : str
        The address to tell to others, with the real port.
    listen_address : str
        The address it is bound to.
    """

    address: str
    listen_address: str

    @abstractmethod
    async def close(self) -> None:
        """Take no more connections and drop those still in their handshake; the others stay."""


@dataclass(frozen=True)
class ListenOptions:
    """What a listener needs to know of its connections; the arguments of `listen`."""

    token: Token | None
    insecure: bool
    epoch: int
    on_comm: Callable[[Comm], None]
    limits: Limits
    roles: frozenset[Role]
    admin_roles: frozenset[Role]
    role: Role


async def connect(
    address: str,
    *,
    role: Role,
    token: Token | None,
    insecure: bool = False,
    timeout: float | None = None,
    limits: Limits | None = None,
    retry: bool = False,
) -> Comm:
    """Open a connection to a listener.

    Parameters
    ----------
    address : str
        `tcp://host:port` or `inproc://name`.
    role : Role
        What this process is.
    token : Token or None
        The shared secret; None only with `insecure`. Inside one process there is nobody to keep out: not
        looked at.
    insecure : bool
        Go without a token; the listener must do so too.
    timeout : float, optional
        Seconds until the attempt is given up; the setting `comm.timeouts.connect` by default.
    limits : Limits, optional
        Bounds of the connection; those of the settings by default.
    retry : bool
        Whether to try again, until the timeout, while nobody listens there yet, or who does listen is too busy
        for a handshake.

    Returns
    -------
    Comm
        Authenticated; call its `start`.

    Raises
    ------
    TimeoutError
        If nobody answered in time.
    OSError
        If the host is unknown or refuses the connection.
    HandshakeError
        If the other side does not speak this protocol, or refuses this role.
    AuthenticationError
        If the two sides do not hold the same token.
    """
    parsed = parse_address(address)
    _check_encryption(parsed)
    if timeout is None:
        timeout = config.get("comm.timeouts.connect")
    failures: list[OSError] = []
    opening = _open_until_there(
        parsed, role, token, insecure, limits or Limits.from_config(), failures if retry else None
    )
    task = asyncio.ensure_future(opening)
    try:
        ended, _ = await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        await _give_up(task)
        raise
    if ended:
        return task.result()
    await _give_up(task)
    last = failures[-1] if failures else None
    detail = f" (last attempt: {last})" if last else ""
    raise TimeoutError(f"timed out connecting to {address} after {timeout:g} s{detail}") from last


async def _give_up(task: asyncio.Task[Comm]) -> None:
    """Cancel an attempt; a connection that comes about in this very moment is closed, too."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _check_encryption(address: Address) -> None:
    if address.scheme not in ("inproc", "tls") and config.get("comm.require-encryption"):
        raise RuntimeError(
            f"encryption is required by the setting comm.require-encryption: refusing to use {str(address)!r}"
        )


async def _open_until_there(
    parsed: Address,
    role: Role,
    token: Token | None,
    insecure: bool,
    limits: Limits,
    failures: list[OSError] | None,
) -> Comm:
    delay = 0.01
    while True:
        try:
            return await _open(parsed, role, token, insecure, limits)
        except OSError as error:
            refused = isinstance(error, HandshakeError) and not isinstance(error, UnfinishedHandshakeError)
            if failures is None or refused:
                raise
            failures[:] = [error]
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, 0.5)


async def _open(parsed: Address, role: Role, token: Token | None, insecure: bool, limits: Limits) -> Comm:
    if parsed.scheme == "inproc":
        from fastdist.comm.inproc import connect_inproc

        return connect_inproc(parsed, role, limits)
    from fastdist.comm.tcp_open import connect_tcp

    return await connect_tcp(parsed, role, token, insecure, limits)


async def listen(
    address: str,
    *,
    token: Token | None,
    insecure: bool = False,
    epoch: int = 0,
    on_comm: Callable[[Comm], None],
    limits: Limits | None = None,
    roles: Iterable[Role] = Role,
    admin_roles: Iterable[Role] = (Role.CLIENT, Role.ADMIN),
    role: Role = Role.SCHEDULER,
) -> Listener:
    """Take connections at an address.

    Parameters
    ----------
    address : str
        `tcp://host:port`; port 0 for any free one, `tcp://host:first:last` for the first free one of a range,
        no host for all interfaces; or `inproc://[name]`.
    token : Token or None
        The shared secret; None only with `insecure`.
    insecure : bool
        Take connections without a token, and only those.
    epoch : int
        Told to every side that connects.
    on_comm : callable
        Called with each authenticated `Comm`, in the thread of the event loop; it must call the comm's
        `start`.
    limits : Limits, optional
        Bounds of each connection and of the listener.
    roles, admin_roles : iterable of Role
        Which roles may connect, and which of them get the admin right.
    role : Role
        What this process is.

    Returns
    -------
    Listener

    Raises
    ------
    OSError
        If the address cannot be bound; the text names it.
    """
    parsed = parse_address(address, default_port=0)
    _check_encryption(parsed)
    options = ListenOptions(
        token,
        insecure,
        epoch,
        on_comm,
        limits or Limits.from_config(),
        frozenset(roles),
        frozenset(admin_roles),
        role,
    )
    if parsed.scheme == "inproc":
        from fastdist.comm.inproc import listen_inproc

        return listen_inproc(parsed, options)
    from fastdist.comm.tcp_open import listen_tcp

    return await listen_tcp(parsed, options)

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
