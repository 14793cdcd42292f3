"""The handshake, byte by byte, without a socket."""

from __future__ import annotations

import pytest

from fastdist.comm.handshake import (
    CLIENT_HELLO_BYTES,
    PROOF_BYTES,
    SERVER_HELLO_BYTES,
    VERDICT_BYTES,
    ClientHandshake,
    Role,
    ServerHandshake,
)
from fastdist.comm.token import Token
from fastdist.errors import AuthenticationError, HandshakeError

TOKEN = Token(bytes(range(32)), "from a test")
OTHER = Token(bytes(32), "from another test")
LENGTHS = [CLIENT_HELLO_BYTES, SERVER_HELLO_BYTES, PROOF_BYTES, VERDICT_BYTES]


def client(token: Token | None = TOKEN, role: Role = Role.CLIENT, **options: object) -> ClientHandshake:
    return ClientHandshake(role, token, nonce=b"c" * 32, **options)


def server(token: Token | None = TOKEN, **options: object) -> ServerHandshake:
    return ServerHandshake(token, epoch=2**63 + 5, nonce=b"s" * 32, **options)


def converse(one: ClientHandshake, two: ServerHandshake, alter=lambda step, data: data) -> list[bytes]:
    """Carry the four messages across; `alter` may change each on its way."""
    messages = []
    sides = [one, two]
    for step in range(4):
        data = alter(step, sides[step % 2].take_outgoing())
        messages.append(data)
        sides[(step + 1) % 2].feed(data)
    return messages


def test_both_sides_agree_on_role_epoch_and_admin_right() -> None:
    one, two = client(), server()
    converse(one, two)
    assert one.done and two.done
    assert one.result is not None and two.result is not None
    assert (one.result.role, one.result.epoch, one.result.admin) == (Role.SCHEDULER, 2**63 + 5, True)
    assert (two.result.role, two.result.epoch, two.result.admin) == (Role.CLIENT, 2**63 + 5, True)


@pytest.mark.parametrize("role", [Role.WORKER, Role.OBSERVER, Role.NANNY])
def test_only_clients_and_admins_get_the_admin_right(role: Role) -> None:
    one, two = client(role=role), server()
    converse(one, two)
    assert one.result is not None and not one.result.admin


def test_the_admin_right_can_be_switched_off() -> None:
    one, two = client(), server(admin_roles=frozenset())
    converse(one, two)
    assert one.result is not None and not one.result.admin


def test_no_side_sends_more_than_256_bytes() -> None:
    messages = converse(client(), server())
    assert [len(message) for message in messages] == LENGTHS
    assert LENGTHS[0] + LENGTHS[2] <= 256 and LENGTHS[1] + LENGTHS[3] <= 256


def test_the_token_never_travels() -> None:
    sent = b"".join(converse(client(), server()))
    assert TOKEN.secret not in sent and TOKEN.to_hex().encode() not in sent


def test_it_takes_single_bytes() -> None:
    one, two = client(), server()
    sides = [one, two]
    for step in range(4):
        receiver = sides[(step + 1) % 2]
        for byte in sides[step % 2].take_outgoing():
            assert receiver.missing > 0
            receiver.feed(bytes([byte]))
    assert one.done and two.done and one.missing == two.missing == 0


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("step", range(4))
def test_every_flipped_bit_of_every_message_is_refused(step: int, insecure: bool) -> None:
    token = None if insecure else TOKEN
    for position in range(LENGTHS[step]):
        for bit in (0, 3, 7):

            def alter(at: int, data: bytes, position: int = position, bit: int = bit) -> bytes:
                if at != step:
                    return data
                return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]

            one, two = client(token, insecure=insecure), server(token, insecure=insecure)
            with pytest.raises(HandshakeError):
                converse(one, two, alter)
            assert not one.done, (position, bit)


def test_a_wrong_token_is_found_by_the_client_before_it_proves_anything() -> None:
    one, two = client(OTHER), server()
    two.feed(one.take_outgoing())
    with pytest.raises(
        AuthenticationError, match=r"does not hold the same token.*from another test.*--token-file"
    ):
        one.feed(two.take_outgoing())
    assert one.take_outgoing() == b""


def test_a_client_that_cannot_prove_itself_is_refused_by_the_server() -> None:
    one, two = client(), server()
    two.feed(one.take_outgoing())
    one.feed(two.take_outgoing())
    with pytest.raises(AuthenticationError, match="does not hold the same token"):
        two.feed(bytes(32))
    with pytest.raises(AuthenticationError):
        one.feed(two.take_outgoing())
    assert not one.done and not two.done


def test_a_recorded_handshake_cannot_be_replayed() -> None:
    hello, _, proof, _ = converse(client(), server())
    fresh = ServerHandshake(TOKEN, epoch=1)
    fresh.feed(hello)
    with pytest.raises(AuthenticationError):
        fresh.feed(proof)


def test_recorded_server_messages_do_not_convince_a_fresh_client() -> None:
    _, hello, _, _ = converse(client(), server())
    fresh = ClientHandshake(Role.CLIENT, TOKEN)
    with pytest.raises(AuthenticationError):
        fresh.feed(hello)


def test_a_proof_cannot_be_reflected() -> None:
    one, two = client(), server()
    two.feed(one.take_outgoing())
    answer = two.take_outgoing()
    with pytest.raises(AuthenticationError):
        two.feed(answer[-PROOF_BYTES:])


def test_a_client_that_gets_its_own_hello_back_refuses() -> None:
    one = client()
    hello = one.take_outgoing()
    with pytest.raises(HandshakeError):
        one.feed((hello + bytes(PROOF_BYTES))[:SERVER_HELLO_BYTES])


def test_another_channel_binding_is_refused() -> None:
    with pytest.raises(AuthenticationError):
        converse(client(binding=b"certificate 1"), server(binding=b"certificate 2"))
    converse(client(binding=b"certificate 1"), server(binding=b"certificate 1"))


def test_a_role_that_may_not_connect_is_refused_with_the_reason() -> None:
    one, two = client(role=Role.OBSERVER), server(roles=frozenset({Role.CLIENT}))
    with pytest.raises(HandshakeError, match="role 3, which may not connect"):
        two.feed(one.take_outgoing())
    with pytest.raises(HandshakeError, match="no connections of this role"):
        one.feed(two.take_outgoing())


@pytest.mark.parametrize("role", [0, 8, 255])
def test_an_unknown_role_is_refused(role: int) -> None:
    hello = bytearray(client().take_outgoing())
    hello[10] = role
    with pytest.raises(HandshakeError, match="may not connect"):
        server().feed(bytes(hello))


@pytest.mark.parametrize("position", [11, 12, 13, 14, 15])
def test_reserved_bytes_and_unknown_flags_are_refused_as_malformed_on_both_sides(position: int) -> None:
    one, two = client(), server()
    hello = bytearray(one.take_outgoing())
    hello[position] |= 0x80
    with pytest.raises(HandshakeError, match="sent a malformed handshake"):
        two.feed(bytes(hello))
    with pytest.raises(HandshakeError, match="found the handshake malformed"):
        one.feed(two.take_outgoing())
    one, two = client(), server()
    two.feed(one.take_outgoing())
    answer = bytearray(two.take_outgoing())
    answer[position if position != 12 else 11] |= 0x80
    with pytest.raises(HandshakeError, match="sent a malformed handshake"):
        one.feed(bytes(answer))


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_another_version_is_refused_and_named_on_both_sides(version: int) -> None:
    one, two = client(), server()
    hello = bytearray(one.take_outgoing())
    hello[8:10] = version.to_bytes(2, "little")
    with pytest.raises(HandshakeError, match=f"speaks version {version} .* this side speaks 1"):
        two.feed(bytes(hello))
    with pytest.raises(HandshakeError, match=r"install the same fastdist"):
        one.feed(two.take_outgoing())


def test_insecure_must_be_said_on_both_sides() -> None:
    converse(client(None, insecure=True), server(None, insecure=True))
    one, two = client(None, insecure=True), server()
    with pytest.raises(AuthenticationError, match="runs in insecure mode, and this side asks for a token"):
        two.feed(one.take_outgoing())
    with pytest.raises(AuthenticationError, match="asks for a token, and this side runs in insecure mode"):
        one.feed(two.take_outgoing())
    one, two = client(), server(None, insecure=True)
    with pytest.raises(AuthenticationError, match="holds a token, and this side runs in insecure mode"):
        two.feed(one.take_outgoing())
    with pytest.raises(AuthenticationError, match="it runs in insecure mode, and this side holds a token"):
        one.feed(two.take_outgoing())


def test_no_token_without_insecure_is_a_mistake_at_once() -> None:
    with pytest.raises(ValueError, match="a token is needed"):
        client(None)
    with pytest.raises(ValueError, match="not both"):
        server(TOKEN, insecure=True)


@pytest.mark.parametrize(
    ("start", "guess"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (b"\x3c\x00\x00\x00\x00\x00\x00\x00\x02", "dask"),
        (b"hello", "began with b'hello'"),
    ],
)
def test_another_protocol_is_refused_after_its_first_bytes(start: bytes, guess: str) -> None:
    for side in (client(), server()):
        with pytest.raises(HandshakeError, match=f"does not speak the fastdist protocol.*{guess}"):
            side.feed(start)


def test_the_first_foreign_byte_is_enough() -> None:
    with pytest.raises(HandshakeError):
        server().feed(b"G")


def test_more_bytes_than_asked_for_are_refused() -> None:
    with pytest.raises(HandshakeError, match="more than the handshake asks for"):
        server().feed(client().take_outgoing() + b"x")


def test_after_a_failure_nothing_is_taken_any_more() -> None:
    two = server()
    with pytest.raises(HandshakeError):
        two.feed(b"G")
    assert two.missing == 0
    with pytest.raises(HandshakeError):
        two.feed(b"FASTDIST")


def test_nonces_differ_from_one_connection_to_the_next() -> None:
    hellos = {ClientHandshake(Role.CLIENT, TOKEN).take_outgoing() for _ in range(20)}
    assert len(hellos) == 20
