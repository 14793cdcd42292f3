"""Names and signatures that scripts and libraries written for dask.distributed rely on; see `exports_inventory`."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastdist


def _load_inventory() -> ModuleType:
    path = Path(__file__).with_name("exports_inventory.py")
    spec = importlib.util.spec_from_file_location("exports_inventory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


inventory = _load_inventory()

#: Stands for "left out", whose object differs from library to library.
LEFT_OUT = "<no default>"


def signatures(lines: str) -> dict[str, inspect.Signature]:
    """The signatures of lines such as `name(a, b=1)`, by name."""
    found = {}
    for line in filter(None, lines.splitlines()):
        tree = ast.parse(f"def {line}: pass")
        scope: dict[str, Any] = {"no_default": LEFT_OUT}
        exec(compile(tree, "<inventory>", "exec"), scope)
        function = scope[line.partition("(")[0]]
        found[function.__name__] = inspect.signature(function)
    return found


def same_default(actual: object, expected: object) -> bool:
    return actual == expected or (expected == LEFT_OUT and "default" in repr(actual))


def differences(actual: inspect.Signature, expected: inspect.Signature) -> Iterator[str]:
    """What a caller who knows the expected signature would stumble over."""
    parameters = dict(actual.parameters)
    parameters.pop("self", None)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    by_position = [each for each in parameters.values() if each.kind in positional]
    for number, wanted in enumerate(expected.parameters.values()):
        if wanted.kind is wanted.VAR_KEYWORD:
            if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
                yield f"takes no **{wanted.name}"
            continue
        if wanted.kind is wanted.VAR_POSITIONAL:
            if not any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
                yield f"takes no *{wanted.name}"
            continue
        found = parameters.get(wanted.name)
        if found is None or found.kind is found.POSITIONAL_ONLY:
            yield f"has no parameter {wanted.name}"
            continue
        if wanted.default is not wanted.empty and found.default is found.empty:
            yield f"{wanted.name} has no default"
        elif wanted.default is not wanted.empty and not same_default(found.default, wanted.default):
            yield f"{wanted.name} is {found.default!r} by default, not {wanted.default!r}"
        if wanted.kind is wanted.POSITIONAL_OR_KEYWORD and by_position[number : number + 1] != [found]:
            yield f"{wanted.name} is not at place {number}"
    for name, found in parameters.items():
        optional = found.kind in (found.VAR_KEYWORD, found.VAR_POSITIONAL) or found.default is not found.empty
        if name not in expected.parameters and not optional:
            yield f"wants {name} in addition"


def check(place: str, actual: Any, expected: inspect.Signature) -> list[str]:
    found = list(differences(inspect.signature(actual), expected))
    assert sorted(inventory.DIFFERENT.get(place, ())) == sorted(found), place
    return found


@pytest.mark.parametrize("name", inventory.TOP_LEVEL)
def test_a_name_of_the_package_is_there(name: str) -> None:
    if name == "dask":
        pytest.importorskip("dask")
    assert getattr(fastdist, name) is not None
    if name not in ("config", "dask", "rpc", "widgets"):
        assert name in fastdist.__all__


@pytest.mark.parametrize(("name", "expected"), signatures(inventory.FUNCTIONS).items())
def test_a_function_takes_what_it_shall(name: str, expected: inspect.Signature) -> None:
    function = importlib.import_module("fastdist.core").rpc if name == "rpc" else getattr(fastdist, name)
    check(name, function, expected)


@pytest.mark.parametrize(("name", "expected"), signatures(inventory.CONSTRUCTORS).items())
def test_a_constructor_takes_what_it_shall(name: str, expected: inspect.Signature) -> None:
    check(name, getattr(fastdist, name), expected)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [(kind, *each) for kind, lines in inventory.METHODS.items() for each in signatures(lines).items()],
)
def test_a_method_takes_what_it_shall(kind: str, name: str, expected: inspect.Signature) -> None:
    place = f"{kind}.{name}"
    owner = getattr(fastdist, kind)
    if place in inventory.ABSENT:
        assert not hasattr(owner, name), f"{place} is not absent any more"
        return
    check(place, getattr(owner, name), expected)


#: What a worker or nanny is told to be made, and how an unknown parameter is called.
WHERE = {"scheduler_ip": "tcp://127.0.0.1:1", "insecure": True}
UNKNOWN = ("no option", "no parameter", "unexpected")


@pytest.mark.parametrize("kind", inventory.SERVER_PARAMETERS)
def test_a_server_takes_its_parameters_by_name(kind: str) -> None:
    """A parameter that is not built is refused by a NotImplementedError, and not as unknown."""
    server = getattr(fastdist, kind)
    own = set(inspect.signature(server).parameters)
    missing = []
    for name in inventory.SERVER_PARAMETERS[kind]:
        if name in own:
            continue
        try:
            server(**({} if kind == "Scheduler" else WHERE), **{name: object()})
        except TypeError as error:
            if name in str(error) and any(text in str(error) for text in UNKNOWN):
                missing.append(name)
        except (NotImplementedError, ValueError, AttributeError):
            pass
    assert sorted(missing) == sorted(inventory.DIFFERENT.get(kind, ()))


@pytest.fixture(scope="module")
def objects() -> Iterator[dict[str, Any]]:
    """One of each kind, running."""
    with (
        fastdist.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        fastdist.Client(cluster) as client,
    ):
        future = client.submit(abs, -1)
        nanny = fastdist.Nanny("tcp://127.0.0.1:1", insecure=True)
        yield {
            "LocalCluster": cluster,
            "Client": client,
            "Future": future,
            "Scheduler": cluster.scheduler,
            "Worker": next(iter(cluster.workers.values())),
            "Nanny": nanny,
            "as_completed": fastdist.as_completed([future]),
        }
        nanny.abandon()


@pytest.mark.parametrize("kind", inventory.ATTRIBUTES)
def test_an_object_has_its_attributes(kind: str, objects: dict[str, Any]) -> None:
    names = [*inventory.ATTRIBUTES[kind], *inventory.SERVER_METHODS.get(kind, ())]
    missing = [name for name in names if not has(objects[kind], name)]
    absent = [place.partition(".")[2] for place in inventory.ABSENT if place.startswith(f"{kind}.")]
    assert sorted(missing) == sorted(set(absent) & set(names))


def has(owner: Any, name: str) -> bool:
    """Whether there is such an attribute; one that refuses by NotImplementedError counts."""
    try:
        value = getattr(owner, name)
    except AttributeError:
        return False
    except NotImplementedError as error:
        return name in str(error)
    if inspect.iscoroutine(value):
        value.close()
    return True


@pytest.mark.parametrize(("place", "base"), inventory.EXCEPTIONS.items())
def test_an_exception_is_where_it_is_caught(place: str, base: str) -> None:
    assert issubclass(find(f"fastdist.{place}"), find(base))


def find(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", inventory.SUBMODULES)
def test_a_module_has_the_names_that_libraries_import(module: str) -> None:
    found = importlib.import_module(f"fastdist.{module}")
    missing = [name for name in inventory.SUBMODULES[module].split() if not hasattr(found, name)]
    absent = [place.rpartition(".")[2] for place in inventory.ABSENT if place.startswith(f"{module}:")]
    assert sorted(missing) == sorted(name.rpartition(":")[2] for name in absent)


@pytest.mark.parametrize(("name", "arguments"), inventory.LATER.items())
def test_what_comes_later_says_so(name: str, arguments: tuple[Any, ...]) -> None:
    owner: Any = importlib.import_module("fastdist.core").rpc if name == "rpc" else fastdist
    for part in name.split("."):
        owner = getattr(owner, part)
    with pytest.raises(NotImplementedError, match=name.rpartition(".")[2]):
        result = owner(*arguments)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def test_the_states_of_servers_are_all_there() -> None:
    assert [status.name for status in fastdist.Status] == inventory.STATUS


def test_the_inventory_is_that_of_the_library_itself() -> None:
    """Where dask.distributed is installed in the version of the inventory: nothing was written down wrongly."""
    distributed = pytest.importorskip("distributed")
    if not distributed.__version__.startswith(inventory.VERSION):
        pytest.skip(f"the inventory is that of {inventory.VERSION}")
    assert sorted(distributed.__all__) == sorted(inventory.TOP_LEVEL)
    wrong = []
    for kind, lines in inventory.METHODS.items():
        for name, expected in signatures(lines).items():
            actual = inspect.signature(getattr(getattr(distributed, kind), name))
            wrong += [f"{kind}.{name} {text}" for text in differences(actual, expected)]
    for name, expected in signatures(inventory.FUNCTIONS).items():
        wrong += [f"{name} {text}" for text in differences(inspect.signature(getattr(distributed, name)), expected)]
    assert wrong == []
