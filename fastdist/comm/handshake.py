"""The handshake that opens every connection, as bytes in and bytes out.

Nothing is decoded before it is over: four messages of fixed size, read with one `struct` each. Both sides
contribute a nonce; each proves with an HMAC over everything said so far that it holds the token, the server
first, so that whoever squats on a port learns nothing. The token itself never travels.

    client hello     48 bytes   magic, version, role, flags, nonce
    server hello     80 bytes   magic, version, code, flags, role, nonce, proof of the server
    client proof     32 bytes
    server verdict   48 bytes   code, admin right, epoch, and a proof over them

There is no input or output here: the transport feeds at most `missing` bytes, sends what `take_outgoing()`
gives and keeps the deadline. May import: fastdist.errors, fastdist.comm.token.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from fastdist.comm.token import Token
from fastdist.errors import AuthenticationError, HandshakeError

MAGIC = b"FASTDIST"
VERSION = 1
NONCE_BYTES = 32
PROOF_BYTES = 32

_HELLO = struct.Struct("<8sHBBB3s32s")
_VERDICT = struct.Struct("<BB6sQ")
CLIENT_HELLO_BYTES = _HELLO.size
SERVER_HELLO_BYTES = _HELLO.size + PROOF_BYTES
VERDICT_BYTES = _VERDICT.size + PROOF_BYTES

_INSECURE = 1
_SERVER_LABEL = b"fastdist server proof"
_CLIENT_LABEL = b"fastdist client proof"
_VERDICT_LABEL = b"fastdist server verdict"
_ROLE_LABEL = b"fastdist role "


class Role(enum.IntEnum):
    """What a process is; each connection states it in both directions."""

    CLIENT = 1
    WORKER = 2
    OBSERVER = 3
    ADMIN = 4
    NANNY = 5
    SCHEDULER = 6
    BEAT = 7


class Code(enum.IntEnum):
    """The answer of a server."""

    ACCEPTED = 0
    OTHER_VERSION = 1
    TOKEN_NEEDED = 2
    NO_TOKEN_HERE = 3
    ROLE_REFUSED = 4
    WRONG_TOKEN = 5
    MALFORMED = 6


_REFUSALS = {
    Code.TOKEN_NEEDED: (
        "it asks for a token, and this side runs in insecure mode; start both with the same token"
    ),
    Code.NO_TOKEN_HERE: (
        "it runs in insecure mode, and this side holds a token; "
        "start it with the token, or this side with insecure"
    ),
    Code.ROLE_REFUSED: "it takes no connections of this role",
    Code.MALFORMED: "it found the handshake malformed",
}


@dataclass(frozen=True)
class HandshakeResult:
    """What both sides agreed on: the role of the other side, the scheduler's epoch, the admin right."""

    role: Role
    epoch: int
    admin: bool


def _role_key(token: Token | None, role: int) -> bytes:
    # Each role has a key of its own, so that a process can one day be given less than the whole token.
    secret = b"" if token is None else token.secret
    return hmac.digest(secret, _ROLE_LABEL + bytes([role]), hashlib.sha256)


def _proof(key: bytes, label: bytes, *transcript: bytes) -> bytes:
    return hmac.digest(key, label + b"".join(transcript), hashlib.sha256)


def describe_foreign(start: bytes) -> str:
    """A guess at what speaks when the first bytes are not ours."""
    if start[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"HTTP", b"DELE", b"PATC", b"CONN"):
        return "it speaks HTTP"
    if start[:2] == b"\x16\x03" or start[:2] == b"\x15\x03":
        return "it speaks TLS"
    if start[:4] == b"SSH-":
        return "it speaks SSH"
    if len(start) >= 8 and start[3:8] == b"\x00" * 5:
        return "it looks like dask.distributed"
    return f"it began with {start[:16]!r}"


def _check_secret(token: Token | None, insecure: bool) -> None:
    if insecure and token is not None:
        raise ValueError("give a token or insecure=True, not both")
    if not insecure and token is None:
        raise ValueError("a token is needed; only insecure=True on both sides goes without")


class _Handshake:
    """What both sides share: the incoming buffer and the pieces expected in turn."""

    def __init__(
        self, token: Token | None, insecure: bool, peer: str, binding: bytes, nonce: bytes | None
    ) -> None:
        _check_secret(token, insecure)
        self._token = token
        self._flags = _INSECURE if insecure else 0
        self._peer = peer
        self._binding = binding
        self._nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
        self._incoming = b""
        self._outgoing = b""
        self._expected = 0
        self._seen_magic = False
        self.result: HandshakeResult | None = None
        self.failure: HandshakeError | None = None

    @property
    def done(self) -> bool:
        """Whether both sides agreed."""
        return self.result is not None

    @property
    def missing(self) -> int:
        """How many bytes the next message of the other side still lacks; never read more than these."""
        if self.result is not None or self.failure is not None:
            return 0
        return self._expected - len(self._incoming)

    def take_outgoing(self) -> bytes:
        """The bytes to send now; after a failure, the refusal that the other side should still see."""
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def feed(self, data: bytes) -> None:
        """Take bytes of the other side.

        Parameters
        ----------
        data : bytes
            At most `missing` bytes.

        Raises
        ------
        HandshakeError
            If the other side is refused or refuses; `take_outgoing()` may still hold an answer for it.
        AuthenticationError
            If the proof of the other side is wrong.
        """
        if self.failure is not None:
            raise self.failure
        try:
            if len(data) > self.missing:
                raise HandshakeError(f"{self._peer} sent more than the handshake asks for")
            self._incoming += data
            if not self._seen_magic:
                self._check_magic()
            if len(self._incoming) == self._expected and self._expected:
                message, self._incoming = self._incoming, b""
                self._take(message)
        except HandshakeError as error:
            self.failure = error
            raise

    def _check_magic(self) -> None:
        start = self._incoming[: len(MAGIC)]
        if start != MAGIC[: len(start)]:
            raise HandshakeError(
                f"{self._peer} does not speak the fastdist protocol ({describe_foreign(self._incoming)})"
            )
        self._seen_magic = len(start) == len(MAGIC)

    def _take(self, message: bytes) -> None:
        raise NotImplementedError

    def _wrong_token(self) -> AuthenticationError:
        if self._token is None:
            return AuthenticationError(f"the handshake with {self._peer} was altered on its way")
        return AuthenticationError(
            f"{self._peer} does not hold the same token as this side. The token of this side: "
            f"{self._token.describe()}. "
            "Give both sides the same token file (--token-file or FASTDIST_TOKEN_FILE)"
        )


class ClientHandshake(_Handshake):
    """The side that connects.

    Parameters
    ----------
    role : Role
        What this process is.
    token : Token or None
        The secret that both sides hold; None only in insecure mode.
    insecure : bool
        Go without a token; the server must do so too.
    peer : str
        The address of the server, for error texts.
    binding : bytes
        What ties the handshake to the channel below (the fingerprint of a TLS certificate); both sides must
        see the same.
    nonce : bytes, optional
        32 random bytes; tests pass their own.

    Examples
    --------
    >>> handshake = ClientHandshake(Role.CLIENT, token=None, insecure=True)
    >>> len(handshake.take_outgoing())
    48
    """

    def __init__(
        self,
        role: Role,
        token: Token | None,
        *,
        insecure: bool = False,
        peer: str = "the server",
        binding: bytes = b"",
        nonce: bytes | None = None,
    ) -> None:
        super().__init__(token, insecure, peer, binding, nonce)
        self._key = _role_key(token, role)
        self._hello = _HELLO.pack(MAGIC, VERSION, role, self._flags, 0, b"", self._nonce)
        self._outgoing = self._hello
        self._transcript: tuple[bytes, ...] = ()
        self._server_role = Role.SCHEDULER
        self._expected = SERVER_HELLO_BYTES

    def _take(self, message: bytes) -> None:
        if not self._transcript:
            self._take_server_hello(message)
        else:
            self._take_verdict(message)

    def _take_server_hello(self, message: bytes) -> None:
        hello, proof = message[: _HELLO.size], message[_HELLO.size :]
        _, version, code, flags, role, reserved, _ = _HELLO.unpack(hello)
        if version != VERSION or code == Code.OTHER_VERSION:
            raise HandshakeError(
                f"{self._peer} speaks version {version} of the fastdist protocol, this side speaks "
                f"{VERSION}; install the same fastdist on both"
            )
        if code != Code.ACCEPTED:
            raise self._refused(code)
        if flags != self._flags or any(reserved):
            raise HandshakeError(f"{self._peer} sent a malformed handshake")
        transcript = (self._hello, hello, self._binding)
        if not hmac.compare_digest(proof, _proof(self._key, _SERVER_LABEL, *transcript)):
            raise self._wrong_token()
        self._server_role = self._checked_role(role)
        own_proof = _proof(self._key, _CLIENT_LABEL, *transcript, proof)
        self._transcript = (*transcript, proof, own_proof)
        self._outgoing = own_proof
        self._expected = VERDICT_BYTES

    def _take_verdict(self, message: bytes) -> None:
        verdict, proof = message[: _VERDICT.size], message[_VERDICT.size :]
        if not hmac.compare_digest(proof, _proof(self._key, _VERDICT_LABEL, *self._transcript, verdict)):
            raise self._wrong_token()
        code, admin, _, epoch = _VERDICT.unpack(verdict)
        if code != Code.ACCEPTED:
            raise self._refused(code)
        self.result = HandshakeResult(self._server_role, epoch, bool(admin))

    def _checked_role(self, role: int) -> Role:
        try:
            return Role(role)
        except ValueError:
            raise HandshakeError(f"{self._peer} has the unknown role {role}") from None

    def _refused(self, code: int) -> HandshakeError:
        if code == Code.WRONG_TOKEN:
            return self._wrong_token()
        reason = _REFUSALS.get(code, f"code {code}")  # type: ignore[call-overload]
        kind = AuthenticationError if code in (Code.TOKEN_NEEDED, Code.NO_TOKEN_HERE) else HandshakeError
        return kind(f"{self._peer} refused the connection: {reason}")


class ServerHandshake(_Handshake):
    """The side that was connected to.

    Parameters
    ----------
    token, insecure, peer, binding, nonce
        As in `ClientHandshake`.
    epoch : int
        The epoch of the scheduler, told to the client once it is accepted.
    roles : collection of Role
        The roles that may connect.
    admin_roles : collection of Role
        The roles whose connections get the admin right.
    role : Role
        What this process is.
    """

    def __init__(
        self,
        token: Token | None,
        *,
        epoch: int,
        insecure: bool = False,
        roles: frozenset[Role] = frozenset(Role),
        admin_roles: frozenset[Role] = frozenset({Role.CLIENT, Role.ADMIN}),
        role: Role = Role.SCHEDULER,
        peer: str = "a client",
        binding: bytes = b"",
        nonce: bytes | None = None,
    ) -> None:
        super().__init__(token, insecure, peer, binding, nonce)
        self._role = role
        self._roles = roles
        self._admin_roles = admin_roles
        self._epoch = epoch
        self._transcript: tuple[bytes, ...] = ()
        self._expected = CLIENT_HELLO_BYTES

    def _take(self, message: bytes) -> None:
        if not self._transcript:
            self._take_client_hello(message)
        else:
            self._take_client_proof(message)

    def _take_client_hello(self, message: bytes) -> None:
        _, version, role, flags, zero, reserved, _ = _HELLO.unpack(message)
        if version != VERSION:
            raise self._refuse(
                Code.OTHER_VERSION,
                f"speaks version {version} of the fastdist protocol, this side speaks {VERSION}",
            )
        if flags & ~_INSECURE or zero or any(reserved):
            raise self._refuse(Code.MALFORMED, "sent a malformed handshake")
        if flags != self._flags:
            if flags:
                raise self._refuse(Code.TOKEN_NEEDED, "runs in insecure mode, and this side asks for a token")
            raise self._refuse(Code.NO_TOKEN_HERE, "holds a token, and this side runs in insecure mode")
        if role not in self._roles:
            raise self._refuse(Code.ROLE_REFUSED, f"has the role {role}, which may not connect here")
        self._client_role = Role(role)
        self._key = _role_key(self._token, role)
        hello = self._server_hello(Code.ACCEPTED)
        transcript = (message, hello, self._binding)
        proof = _proof(self._key, _SERVER_LABEL, *transcript)
        self._transcript = (*transcript, proof)
        self._outgoing = hello + proof
        self._expected = PROOF_BYTES

    def _take_client_proof(self, message: bytes) -> None:
        right = hmac.compare_digest(message, _proof(self._key, _CLIENT_LABEL, *self._transcript))
        admin = right and self._client_role in self._admin_roles
        code = Code.ACCEPTED if right else Code.WRONG_TOKEN
        verdict = _VERDICT.pack(code, admin, b"", self._epoch if right else 0)
        proof = _proof(self._key, _VERDICT_LABEL, *self._transcript, message, verdict)
        self._outgoing = verdict + proof
        if not right:
            raise self._wrong_token()
        self.result = HandshakeResult(self._client_role, self._epoch, admin)

    def _server_hello(self, code: Code) -> bytes:
        return _HELLO.pack(MAGIC, VERSION, code, self._flags, self._role, b"", self._nonce)

    def _refuse(self, code: Code, reason: str) -> HandshakeError:
        self._outgoing = self._server_hello(code) + bytes(PROOF_BYTES)
        kind = AuthenticationError if code in (Code.TOKEN_NEEDED, Code.NO_TOKEN_HERE) else HandshakeError
        return kind(f"{self._peer} was refused: it {reason}")
