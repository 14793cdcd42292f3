"""Types at run time; what a type checker makes of them is checked by `make lint` on `examples/typed.py`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import typing
from pathlib import Path
from types import ModuleType

import fastdist

ROOT = Path(__file__).resolve().parent.parent


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("typed_example", ROOT / "examples" / "typed.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_future_is_generic_at_run_time() -> None:
    assert typing.get_origin(fastdist.Future[int]) is fastdist.Future
    assert typing.get_args(fastdist.Future[list[int]]) == (list[int],)


def test_the_package_says_that_it_is_typed() -> None:
    assert fastdist.__file__ is not None
    assert os.path.exists(os.path.join(os.path.dirname(fastdist.__file__), "py.typed"))


def test_the_typed_example_runs() -> None:
    example = load_example()
    assert example.main() == 11.0
    assert asyncio.run(example.in_coroutines()) == 4
