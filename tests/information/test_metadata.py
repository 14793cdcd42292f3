"""Metadata: a tree of values on the scheduler. May import: fastdist, pytest."""

from __future__ import annotations

import pytest

from fastdist import Client, config


def test_values_are_found_by_path(client: Client) -> None:
    client.set_metadata("x", 1)
    client.set_metadata(["run", "id"], 7)
    client.set_metadata(("run", "tags"), ["a", "b"])
    assert client.get_metadata("x") == 1
    assert client.get_metadata(["run", "id"]) == 7
    assert client.get_metadata("run") == {"id": 7, "tags": ["a", "b"]}
    assert client.get_metadata([])["run"]["id"] == 7


def test_a_dict_is_a_branch(client: Client) -> None:
    client.set_metadata("tree", {"a": {"b": 1}, "c": {}, 5: None})
    assert client.get_metadata(["tree", "a", "b"]) == 1
    assert client.get_metadata(["tree", "c"]) == {}
    assert client.get_metadata("tree") == {"a": {"b": 1}, "c": {}, 5: None}


def test_setting_replaces_what_was_there(client: Client) -> None:
    client.set_metadata("place", {"a": 1})
    client.set_metadata("place", 2)
    assert client.get_metadata("place") == 2
    client.set_metadata(["place", "b"], 3)
    assert client.get_metadata("place") == {"b": 3}
    client.set_metadata("place", {})
    assert client.get_metadata("place") == {}


def test_a_missing_value_is_a_key_error_or_the_default(client: Client) -> None:
    with pytest.raises(KeyError):
        client.get_metadata(["no", "such"])
    assert client.get_metadata("no", default=None) is None


def test_a_path_needs_a_key(client: Client) -> None:
    with pytest.raises(ValueError, match="needs a key"):
        client.set_metadata([], 1)


def test_metadata_are_bounded(client: Client) -> None:
    with config.set({"scheduler.max-metadata-bytes": 10_000}):
        client.set_metadata("large", b"x" * 5000)
        with pytest.raises(MemoryError, match=r"scheduler\.max-metadata-bytes"):
            client.set_metadata("larger", b"x" * 9000)
        client.set_metadata("large", b"x" * 4000)
