"""What is where, what happens, what happened; views and reprs of a client. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, fire_and_forget, futures_of, wait
from fastdist.client.cluster_dump import DumpArtefact
from fastdist.client.helpers import ensure_default_client, temp_default_client
from fastdist.client.information import format_bytes
from fastdist.errors import FuturesCancelledError

started = threading.Event()
released = threading.Event()


def wait_here() -> int:
    started.set()
    assert released.wait(10)
    return 1


@pytest.fixture(autouse=True)
def events_are_clear() -> None:
    started.clear()
    released.clear()


# -- what is where -----------------------------------------------------------------------------------------------------


def test_who_has_and_has_what_are_lists_that_show_themselves(client: Client) -> None:
    futures = client.map(pow, range(4), [3] * 4)
    wait(futures)
    who = client.who_has(futures)
    assert all(isinstance(holders, list) and len(holders) == 1 for holders in who.values())
    what = client.has_what()
    assert sorted(key for keys in what.values() for key in keys) == sorted(who)
    assert futures[0].key in who._repr_html_()
    assert futures[0].key in what._repr_html_()


def test_nbytes_adds_up_by_name_or_tells_each_key(client: Client) -> None:
    futures = [client.submit(bytes, 100 + i, key=f"part-{i}") for i in range(3)]
    wait(futures)
    each = client.nbytes(summary=False)
    assert each.keys() == {future.key for future in futures}
    assert client.nbytes() == {"part": sum(each.values())}
    assert client.nbytes(keys=futures[:1], summary=False) == {futures[0].key: each[futures[0].key]}


def test_processing_and_call_stack_show_what_executes(client: Client) -> None:
    future = client.submit(wait_here, key="here")
    behind = client.submit(abs, future, key="behind")
    assert started.wait(10)
    assert [key for keys in client.processing().values() for key in keys if key == "here"] == ["here"]
    for stacks in (client.call_stack(), client.call_stack([future]), client.call_stack(keys=["here", "none"])):
        ((_, by_key),) = stacks.items()
        assert any("wait_here" in frame and "released.wait" in frame for frame in by_key["here"])
    assert "here" in next(iter(client.call_stack([behind]).values()))
    released.set()
    wait(behind)
    assert client.call_stack() == {}
    assert set(map(tuple, client.processing().values())) == {()}


def test_versions_tell_of_all_processes(client: Client) -> None:
    versions = client.get_versions(check=True, packages=["pytest"])
    assert versions["client"]["packages"]["pytest"] == pytest.__version__
    assert versions["scheduler"]["packages"] == versions["client"]["packages"]
    assert versions["workers"].keys() == client.nthreads().keys()
    assert versions["client"]["packages"]["fastdist"]


def test_different_versions_are_told_by_check(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    different = {"host": {}, "packages": {"python": "2.7"}}
    monkeypatch.setattr("fastdist.scheduler.extensions.information.get_versions", lambda packages: different)
    with pytest.raises(ValueError, match=r"python: .*2\.7 \(scheduler\)"):
        client.get_versions(check=True)
    assert client.get_versions()["scheduler"] == different


# -- what happened -----------------------------------------------------------------------------------------------------


def test_a_story_has_the_transitions_of_scheduler_and_worker(client: Client) -> None:
    future = client.submit(pow, 2, 91)
    wait(future)
    story = client.story(future)
    here = [(row[2], row[3]) for row in story if row[0] == "scheduler"]
    assert here == [("released", "ready"), ("ready", "processing"), ("processing", "memory")]
    there = [row for row in story if row[0] != "scheduler"]
    assert there[-1][2:4] == ("executing", "memory")
    assert {row[0] for row in there} == set(client.who_has([future])[future.key])
    assert all(row[1] == future.key and row[6] > 1e9 for row in story)
    batch = story[0][5]
    assert batch in {row[5] for row in client.story(batch)}


def test_a_story_is_remembered_when_its_task_is_gone(client: Client, eventually: Callable[..., Any]) -> None:
    future = client.submit(pow, 2, 92)
    wait(future)
    key = future.key
    future.release()
    assert eventually(lambda: [row for row in client.story(key) if row[3] == "forgotten"])
    again = client.submit(pow, 2, 92)
    wait(again)
    finishes = [row[3] for row in client.story(key) if row[0] == "scheduler"]
    assert finishes.count("memory") == 2
    assert finishes.count("forgotten") == 1


def test_an_unknown_key_has_no_story(client: Client) -> None:
    assert client.story("nobody") == []
    with pytest.raises(ValueError, match="on_error"):
        client.story("nobody", on_error="skip")


@pytest.mark.parametrize("format", ["msgpack", "yaml"])
def test_a_dump_tells_everything(client: Client, tmp_path: Path, format: str) -> None:
    future = client.submit(pow, 2, 93)
    wait(future)
    client.dump_cluster_state(str(tmp_path / "dump"), format=format, exclude=["who_has"])
    (path,) = tmp_path.iterdir()
    dump = DumpArtefact.from_url(str(path))
    (task,) = dump.scheduler_tasks_in_state("memory")
    assert task["key"] == future.key
    assert "who_has" not in task
    assert [each["key"] for each in dump.worker_tasks_in_state("memory")] == [future.key]
    assert dump.scheduler_story(future.key)[future.key][-1][2] == "memory"
    assert dump.worker_story(future.key)[future.key]
    assert dump.missing_workers() == []
    dump.to_yamls(tmp_path / "out", worker_expand_keys=["tasks"])
    assert len(list((tmp_path / "out").rglob("tasks.yaml"))) == 2


def test_a_dump_in_an_unknown_format_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="msgpack"):
        client.dump_cluster_state("dump", format="json")
    with pytest.raises(NotImplementedError, match="write_from_scheduler"):
        client.dump_cluster_state("dump", write_from_scheduler=True)


# -- futures of a client -----------------------------------------------------------------------------------------------


def test_a_client_shows_its_futures_and_how_many_there_are(client: Client) -> None:
    first = client.submit(abs, -5, key="five")
    second = client.submit(abs, -5, key="five")
    wait(first)
    assert client.futures["five"].status == "finished"
    assert dict(client.refcount) == dict(client.refcount.items()) == {"five": 2}
    del second
    assert client.refcount["five"] == 1
    assert "five" in client.futures
    assert "six" not in client.futures
    first.release()
    assert len(client.futures) == 0
    with pytest.raises(KeyError):
        client.futures["five"]


def test_futures_of_finds_each_once(client: Client) -> None:
    futures = client.map(abs, [-1, -2])
    assert futures_of([futures, {"a": futures[0]}, 5]) == futures
    assert client.futures_of({"a": futures[1]}) == futures[1:]
    assert futures_of(5) == []
    futures[0].cancel()
    with pytest.raises(FuturesCancelledError):
        futures_of(futures, client)


def test_what_is_fired_and_forgotten_runs_and_leaves_nothing(
    cluster: LocalCluster, client: Client, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    with Client(cluster, set_as_default=False) as author:
        future = author.submit(Path.write_text, tmp_path / "done", "x", key="fired")
        fire_and_forget([future])
        del future
    assert eventually((tmp_path / "done").exists)
    assert eventually(lambda: "fired" not in client.who_has())


def test_what_fails_is_forgotten_too(client: Client, eventually: Callable[..., Any]) -> None:
    fire_and_forget(client.submit(divmod, 1, 0, key="failing"))
    assert eventually(lambda: "failing" not in client.who_has())


def test_the_default_client_can_be_another_one_for_a_while(cluster: LocalCluster, client: Client) -> None:
    other = Client(cluster, set_as_default=False)
    try:
        ensure_default_client(other)
        assert Client.current() is client
        with temp_default_client(other):
            assert Client.current() is other
        assert Client.current() is client
    finally:
        other.close()


# -- how they look -----------------------------------------------------------------------------------------------------


def test_a_client_shows_its_cluster(client: Client, eventually: Callable[..., Any]) -> None:
    assert eventually(lambda: "processes=2 threads=2, memory=" in repr(client))
    assert client.scheduler_address in client._repr_html_()
    client.close()
    assert repr(client) == "<Client: No scheduler connected>"
    assert "closed" in client._repr_html_()


def test_scheduler_info_shows_itself(client: Client) -> None:
    info = client.scheduler_info()
    assert info["n_workers"] == len(info["workers"]) == 2
    assert all(address in info._repr_html_() for address in info["workers"])
    assert client.scheduler_info(n_workers=1)["workers"].keys() <= info["workers"].keys()


def test_an_asynchronous_client_gives_what_it_knows(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            info = client.scheduler_info()
            assert (info["n_workers"], info["workers"]) == (2, {})
            assert len(await client.nthreads()) == 2
            assert await client.nbytes() == {}

    asyncio.run(main())


def test_bytes_are_readable() -> None:
    assert [format_bytes(n) for n in (0, 999, 2_000, 5 << 20, 15 << 29)] == [
        "0 B", "0.98 kiB", "1.95 kiB", "5.00 MiB", "7.50 GiB",
    ]  # fmt: skip


def test_later_features_name_themselves(client: Client) -> None:
    import fastdist

    for use, name in [
        (client.profile, "Client.profile"),
        (fastdist.performance_report, "performance_report"),
        (lambda: fastdist.span("a"), "span"),
        (lambda: client.get_task_stream(plot=True), "plot"),
        (lambda: fastdist.get_task_stream(plot=True), "plot"),
    ]:
        with pytest.raises(NotImplementedError, match=name):
            use()


def test_the_views_of_a_client_do_not_keep_tasks(client: Client) -> None:
    future = client.submit(abs, -6, key="six")
    view = client.futures
    assert list(view) == ["six"]
    wait(future)
    assert pickle.loads(pickle.dumps(future)).key == "six"
    del future
    assert list(view) == []
