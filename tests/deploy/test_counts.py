"""How many workers with how many threads, and which parameters are refused; nothing is started."""

from __future__ import annotations

import pytest

from fastdist.deploy import local
from fastdist.deploy.local import LocalCluster, nprocesses_nthreads
from fastdist.nanny import Nanny
from fastdist.status import Status


@pytest.mark.parametrize(
    ("processors", "expected"),
    [(1, (1, 1)), (4, (4, 1)), (6, (3, 2)), (8, (4, 2)), (32, (8, 4)), (7, (7, 1))],
)
def test_processes_and_threads_for_some_processors(processors: int, expected: tuple[int, int]) -> None:
    assert nprocesses_nthreads(processors) == expected


@pytest.mark.parametrize(
    ("workers", "threads", "processes", "expected"),
    [
        (None, None, True, (4, 2)),
        (None, None, False, (1, 8)),
        (None, 3, True, (2, 3)),
        (None, 3, False, (1, 3)),
        (3, None, True, (3, 3)),
        (5, 7, True, (5, 7)),
        (0, None, True, (0, 8)),
    ],
)
def test_counts_that_are_not_given_follow_from_the_processors(
    workers: int | None,
    threads: int | None,
    processes: bool,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "processor_count", lambda: 8)
    assert local._counts(workers, threads, processes) == expected


@pytest.mark.parametrize(("workers", "threads"), [(-1, None), (None, 0), (1, -1)])
def test_senseless_counts_are_refused(workers: int | None, threads: int | None) -> None:
    with pytest.raises(ValueError):
        LocalCluster(n_workers=workers, threads_per_worker=threads, asynchronous=True)


@pytest.mark.parametrize(
    "parameter",
    [
        {"security": True},
        {"dashboard_address": ":9999"},
        {"services": {"bokeh": 1}},
        {"start": False},
        {"protocol": "tls"},
        {"worker_dashboard_address": ":0"},
    ],
)
def test_what_is_not_built_is_refused_by_name(parameter: dict[str, object]) -> None:
    with pytest.raises(NotImplementedError, match=next(iter(parameter))):
        LocalCluster(asynchronous=True, **parameter)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [None, ":8787", ":0"])
def test_a_dashboard_address_that_asks_for_nothing_is_accepted(address: str | None) -> None:
    cluster = LocalCluster(asynchronous=True, dashboard_address=address)
    assert cluster.status is Status.created


def test_inproc_and_processes_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="processes=False"):
        LocalCluster(protocol="inproc", processes=True, asynchronous=True)


def test_the_protocol_follows_from_the_workers() -> None:
    assert local._protocol(None, False, 0, None) == "inproc"
    assert local._protocol(None, False, 8786, None) == "tcp"
    assert local._protocol(None, True, 0, None) == "tcp"
    assert local._protocol("tcp://", False, 0, None) == "tcp"


class OwnNanny(Nanny):
    """A kind of nanny."""


def test_the_class_of_the_workers_decides_about_processes() -> None:
    assert local._worker_classes(None, None) == (True, Nanny, None)
    assert local._worker_classes(None, OwnNanny) == (True, OwnNanny, None)
    assert local._worker_classes(None, "module:Class") == (False, Nanny, "module:Class")
    assert local._worker_classes(True, "module:Class") == (True, Nanny, "module:Class")
    with pytest.raises(ValueError, match="processes=False"):
        local._worker_classes(False, OwnNanny)


def test_memory_is_shared_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "total_memory", lambda: 1000)
    assert local._memory_limit("auto", 4, 1) == 250
    assert local._memory_limit(0, 4, 1) is None
    assert local._memory_limit("1 kB", 4, 1) == 1000


def test_a_cluster_has_a_name_and_a_repr_before_it_starts() -> None:
    cluster = LocalCluster(name="mine", asynchronous=True, n_workers=2, threads_per_worker=3, memory_limit=0)
    assert repr(cluster) == "LocalCluster(mine, '<Not Connected>', workers=0, threads=0)"
    assert cluster == LocalCluster(name="mine", asynchronous=True)
    assert cluster != LocalCluster(asynchronous=True)
    with pytest.raises(TypeError, match="async with"):
        cluster.__enter__()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_workers": "two"}, "n_workers= must be a whole number, not 'two'"),
        ({"n_workers": 1.5}, "n_workers= must be a whole number, not 1.5"),
        ({"threads_per_worker": "4"}, "threads_per_worker= must be a whole number, not '4'"),
        ({"processes": "no"}, "processes= must be True or False, not 'no'"),
        ({"resources": "GPU"}, "resources= must be a dict such as {'GPU': 1}, not 'GPU'"),
        (
            {"nanny": True},
            "a cluster has no nanny=: workers that are processes have one each, those of processes=False have none",
        ),
        ({"nworkers": 1}, "neither the cluster nor its workers have an argument nworkers=; did you mean n_workers=?"),
        (
            {"memory_limt": 1, "processes": False},
            "neither the cluster nor its workers have an argument memory_limt=; did you mean memory_limit=?",
        ),
        ({"colour": "red"}, "neither the cluster nor its workers have an argument colour="),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        LocalCluster(asynchronous=True, **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_what_only_workers_take_is_no_mistake() -> None:
    cluster = LocalCluster(
        asynchronous=True, n_workers=1, env={"A": "1"}, lifetime="1 hour", preload=[], quiet=True, plugins=()
    )
    assert cluster.status is Status.created
