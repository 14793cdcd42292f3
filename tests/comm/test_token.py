"""Where tokens come from and who may read them."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest

from fastdist.comm.token import Token, create_token, default_token_path, find_token
from fastdist.errors import TokenError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FASTDIST_TOKEN_FILE", raising=False)
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_token_is_made_at_first_use_and_found_again(home: Path) -> None:
    token = find_token()
    path = home / "config" / "fastdist" / "token"
    assert default_token_path() == path
    assert find_token() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["token"]
    assert str(path) in token.describe()
    assert "FASTDIST_TOKEN_FILE is not set" in token.describe()


def test_without_xdg_the_config_folder_of_the_home_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(home))
    assert default_token_path() == home / ".config" / "fastdist" / "token"


def test_a_second_creator_leaves_the_first_token(home: Path) -> None:
    token = find_token()
    create_token(default_token_path())
    assert find_token() == token


def test_the_file_given_comes_before_the_variable_and_the_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write(home / "given", "11" * 32)
    named = write(home / "named", "22" * 32 + "\n")
    monkeypatch.setenv("FASTDIST_TOKEN_FILE", str(named))
    assert find_token(given).to_hex() == "11" * 32
    assert "--token-file" in find_token(given).describe()
    assert find_token().to_hex() == "22" * 32
    assert "FASTDIST_TOKEN_FILE" in find_token().describe()
    assert not (home / "config").exists()


def test_a_missing_file_says_how_to_make_it(home: Path) -> None:
    with pytest.raises(TokenError, match=r"nowhere cannot be read.*openssl rand -hex 32"):
        find_token(home / "nowhere")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606])
def test_a_file_open_to_others_is_refused(home: Path, mode: int) -> None:
    path = write(home / "token", "11" * 32, mode)
    with pytest.raises(TokenError, match=f"open to other users; run: chmod 600 {path}"):
        find_token(path)


def test_a_link_is_not_followed(home: Path) -> None:
    write(home / "real", "11" * 32)
    (home / "link").symlink_to(home / "real")
    with pytest.raises(TokenError, match="cannot be read"):
        find_token(home / "link")


def test_a_folder_or_a_pipe_is_no_token_file(home: Path) -> None:
    os.mkfifo(home / "pipe", 0o600)
    for path in (home, home / "pipe"):
        with pytest.raises(TokenError, match="not a plain file"):
            find_token(path)


def test_the_file_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home / "token", "11" * 32)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(TokenError, match="belongs to user"):
        find_token(path)


def test_a_config_folder_open_to_others_is_refused(home: Path) -> None:
    folder = home / "config" / "fastdist"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(TokenError, match=f"open to other users; run: chmod 700 {folder}"):
        find_token()


def test_a_config_folder_that_is_a_link_is_refused(home: Path) -> None:
    (home / "config").mkdir()
    (home / "elsewhere").mkdir(mode=0o700)
    (home / "config" / "fastdist").symlink_to(home / "elsewhere")
    with pytest.raises(TokenError, match="not a folder"):
        find_token()


def test_a_home_that_cannot_be_written_says_what_to_do(home: Path) -> None:
    (home / "config").write_text("a file where the folder should be")
    with pytest.raises(TokenError, match=r"no token can be kept in .*--token-file"):
        find_token()


@pytest.mark.parametrize("text", ["", "zz" * 32, "11" * 31, "11" * 33, "ü" * 64])
def test_a_file_without_a_token_is_refused_and_not_shown(home: Path, text: str) -> None:
    path = write(home / "token", text)
    with pytest.raises(TokenError, match="64 hexadecimal digits") as caught:
        find_token(path)
    assert not text or text not in str(caught.value)


def test_a_token_never_shows_itself() -> None:
    token = Token.generate("made for a test")
    shown = repr(token) + str(token) + f"{token}" + token.describe()
    assert token.to_hex() not in shown and repr(token.secret) not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(token)


def test_tokens_are_equal_by_their_secret() -> None:
    assert Token(b"a" * 32, "x") == Token(b"a" * 32, "y")
    assert hash(Token(b"a" * 32, "x")) == hash(Token(b"a" * 32, "y"))
    assert Token(b"a" * 32, "x") != Token(b"b" * 32, "x")
    assert Token.generate() != Token.generate()
    assert Token(b"a" * 32, "x") != "a"


@pytest.mark.parametrize("secret", [b"", b"a" * 31, "a" * 32])
def test_a_token_has_32_bytes(secret: object) -> None:
    with pytest.raises(TokenError, match="32 bytes"):
        Token(secret, "x")  # type: ignore[arg-type]
