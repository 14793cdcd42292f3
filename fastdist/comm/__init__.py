"""Bytes between processes: addresses, the handshake, tokens, tcp and inproc connections.

May import: fastdist.errors, fastdist.config.
"""

from fastdist.aliases import names_of
from fastdist.comm.addresses import Address, parse_address, unparse_address
from fastdist.comm.core import CONTROL, Comm, Limits, Listener, connect, counters, listen
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token, find_token

__all__ = [
    "CONTROL",
    "Address",
    "Comm",
    "Limits",
    "Listener",
    "Role",
    "Token",
    "connect",
    "counters",
    "find_token",
    "listen",
    "parse_address",
    "unparse_address",
]

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
