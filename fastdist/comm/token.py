"""The cluster's shared secret: where it is looked for, how it is made, who may read it.

May import: fastdist.errors.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from fastdist.errors import TokenError

TOKEN_BYTES = 32
TOKEN_FILE_VARIABLE = "FASTDIST_TOKEN_FILE"
_MAX_FILE_BYTES = 4096


class Token:
    """A secret of 32 random bytes and where it came from.

    It never shows itself: not in `repr`, not in a pickle. `to_hex()` is the one way out, for the file or a
    child's pipe.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    origin : str
        Where it came from, for error texts.

    Examples
    --------
    >>> Token.generate("made for this example")
    <Token made for this example>
    """

    __slots__ = ("__weakref__", "origin", "secret")

    def __init__(self, secret: bytes, origin: str) -> None:
        if not isinstance(secret, bytes) or len(secret) != TOKEN_BYTES:
            raise TokenError(f"a token has {TOKEN_BYTES} bytes ({origin})")
        self.secret = secret
        self.origin = origin

    @classmethod
    def generate(cls, origin: str = "made for this cluster and kept in memory") -> Token:
        """A fresh random token."""
        return cls(secrets.token_bytes(TOKEN_BYTES), origin)

    @classmethod
    def from_hex(cls, text: str, origin: str) -> Token:
        """The token written as 64 hexadecimal digits.

        Raises
        ------
        TokenError
            If the text is anything else; the text itself is not shown.
        """
        try:
            secret = bytes.fromhex(text.strip())
        except ValueError:
            secret = b""
        if len(secret) != TOKEN_BYTES:
            raise TokenError(f"not a token ({origin}): {2 * TOKEN_BYTES} hexadecimal digits are expected")
        return cls(secret, origin)

    def to_hex(self) -> str:
        """The token as 64 hexadecimal digits."""
        return self.secret.hex()

    def describe(self) -> str:
        """Where the token came from, for error texts."""
        return self.origin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return hmac.compare_digest(self.secret, other.secret)

    def __hash__(self) -> int:
        return hash((Token, self.secret))

    def __repr__(self) -> str:
        return f"<Token {self.origin}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a token is not pickled; hand token.to_hex() over a pipe")


def default_token_path() -> Path:
    """The token file in the user's config folder (`XDG_CONFIG_HOME`, else `~/.config`).

    Raises
    ------
    TokenError
        If the user has no home folder.
    """
    home = os.environ.get("XDG_CONFIG_HOME")
    if home and os.path.isabs(home):
        return Path(home) / "fastdist" / "token"
    try:
        return Path.home() / ".config" / "fastdist" / "token"
    except RuntimeError:
        raise TokenError(
            "this user has no home folder to keep a token in; write 64 hexadecimal digits into a file of "
            f"mode 0600 and name it by --token-file or {TOKEN_FILE_VARIABLE}"
        ) from None


def find_token(token_file: str | os.PathLike[str] | None = None) -> Token:
    """The token of this user.

    Looked for in this order: the file given here (`--token-file`), the file that `FASTDIST_TOKEN_FILE` names,
    and `fastdist/token` in the user's config folder, which is made at first use.

    Parameters
    ----------
    token_file : path, optional
        The file to read and no other.

    Returns
    -------
    Token

    Raises
    ------
    TokenError
        If the file is missing, malformed, or open to other users; or if the config folder cannot be written.
    """
    if token_file is not None:
        path = Path(token_file)
        return read_token(path, f"from {path}, given by --token-file or token_file=")
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    if named:
        path = Path(named)
        return read_token(
            path,
            f"from {path}, named by {TOKEN_FILE_VARIABLE} (looked at before it: no --token-file was given)",
        )
    path = default_token_path()
    origin = f"from {path} (looked at before it: no --token-file was given, {TOKEN_FILE_VARIABLE} is not set)"
    _ensure_folder(path.parent)
    try:
        return read_token(path, origin)
    except TokenError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    create_token(path)
    return read_token(path, origin)


def read_token(path: Path, origin: str) -> Token:
    """The token in a file that belongs to this user and that nobody else may read.

    Raises
    ------
    TokenError
        If the file is missing, a link, not the user's, readable for others, or does not hold a token.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = (
            "; make it with: (umask 077; openssl rand -hex 32 > FILE)"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise TokenError(f"the token file {path} cannot be read: {error.strerror}{hint}") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise TokenError(f"the token file {path} is not a plain file")
        _check_owner(path, facts)
        if facts.st_mode & 0o077:
            raise TokenError(f"the token file {path} is open to other users; run: chmod 600 {path}")
        content = os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
    return Token.from_hex(content.decode("ascii", "replace"), origin)


def create_token(path: Path) -> None:
    """Write a fresh token to `path` unless it exists; the folder must exist.

    Whoever looks sees no file or a whole one: it is written under another name and linked into place.

    Raises
    ------
    TokenError
        If the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, secrets.token_hex(TOKEN_BYTES).encode() + b"\n")
            os.link(draft, path)
        except FileExistsError:
            # Another process was first: its token counts.
            pass
        finally:
            os.close(descriptor)
            os.unlink(draft)
    except OSError as error:
        raise _not_writable(path.parent, error) from error


def _ensure_folder(folder: Path) -> None:
    try:
        os.makedirs(folder.parent, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        facts = os.lstat(folder)
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not stat.S_ISDIR(facts.st_mode):
        raise TokenError(f"{folder} is not a folder (links are not followed)")
    _check_owner(folder, facts)
    if facts.st_mode & 0o077:
        raise TokenError(
            f"the folder of the token, {folder}, is open to other users; run: chmod 700 {folder}"
        )


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise TokenError(
            f"{path} belongs to user {facts.st_uid}, this process runs as user {os.geteuid()}; "
            f"use a token file of your own (--token-file or {TOKEN_FILE_VARIABLE})"
        )


def _not_writable(folder: Path, error: OSError) -> TokenError:
    return TokenError(
        f"no token can be kept in {folder}: {error.strerror}; write 64 hexadecimal digits into a file of "
        f"mode 0600 and name it by --token-file or {TOKEN_FILE_VARIABLE}"
    )
