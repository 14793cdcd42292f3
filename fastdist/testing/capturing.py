"""Logs, settings, modules and processes for the time of a test. May import: `config`."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


@contextlib.contextmanager
def captured_logger(
    logger: logging.Logger | str, level: int = logging.INFO, propagate: bool | None = None
) -> Iterator[io.StringIO]:
    """What a logger writes goes to a StringIO. The names that dask.distributed uses mean those of fastdist.

    Examples
    --------
    >>> with captured_logger("fastdist.worker") as log:
    ...     logging.getLogger("fastdist.worker").info("hello")
    >>> log.getvalue()
    'hello\\n'
    """
    if isinstance(logger, str):
        if logger == "distributed" or logger.startswith("distributed."):
            logger = "fastdist" + logger.removeprefix("distributed")
        logger = logging.getLogger(logger)
    before = logger.level, logger.handlers[:], logger.propagate
    stream = io.StringIO()
    logger.handlers[:] = [logging.StreamHandler(stream)]
    logger.setLevel(level)
    if propagate is not None:
        logger.propagate = propagate
    try:
        yield stream
    finally:
        logger.level, logger.handlers[:], logger.propagate = before
        logger.setLevel(before[0])


@contextlib.contextmanager
def captured_handler(handler: logging.StreamHandler[Any]) -> Iterator[io.StringIO]:
    """What a handler writes goes to a StringIO."""
    before, stream = handler.stream, io.StringIO()
    handler.stream = stream
    try:
        yield stream
    finally:
        handler.stream = before


@contextlib.contextmanager
def save_sys_modules() -> Iterator[None]:
    """Forget what is imported, and added to `sys.path`, meanwhile."""
    modules, path = set(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = [entry for entry in sys.path if entry in path]
        for name in set(sys.modules) - modules:
            del sys.modules[name]


@contextlib.contextmanager
def raises_with_cause(
    expected_exception: Any, match: str | None, expected_cause: Any, match_cause: str | None, *more_causes: Any
) -> Iterator[None]:
    """Expect an exception, the cause of it, and (pairs of type and pattern) the causes of that."""
    import pytest

    with pytest.raises(expected_exception, match=match) as caught:
        yield
    kinds = [expected_cause, *more_causes[::2]]
    patterns = [match_cause, *more_causes[1::2]]
    error: BaseException = caught.value
    for kind, pattern in zip(kinds, patterns, strict=True):
        assert error.__cause__ is not None, f"{error!r} has no cause"
        error = error.__cause__
        with pytest.raises(kind, match=pattern):
            raise error


@contextlib.contextmanager
def new_config_file(c: Mapping[str, Any]) -> Iterator[None]:
    """A configuration file with this content, for processes that are started meanwhile."""
    import yaml

    before = os.environ.get("DASK_CONFIG")
    with tempfile.TemporaryDirectory(prefix="fastdist-test-config") as folder:
        path = os.path.join(folder, "config.yaml")
        with open(path, "w") as file:
            yaml.safe_dump(dict(c), file)
        os.environ["DASK_CONFIG"] = path
        try:
            yield
        finally:
            if before is None:
                del os.environ["DASK_CONFIG"]
            else:
                os.environ["DASK_CONFIG"] = before


@contextlib.contextmanager
def popen(
    args: Sequence[str],
    capture_output: bool = False,
    terminate_timeout: float = 10,
    kill_timeout: float = 5,
    **kwargs: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command meanwhile; it gets SIGINT at the end, and SIGKILL if it does not heed that.

    Parameters
    ----------
    args : list of str
        A program with a relative name is looked for where scripts of this Python are.
    capture_output : bool
        Whether both outputs go to `process.stdout`; what was not read is printed at the end.
    terminate_timeout, kill_timeout : float
        Seconds after which it is killed, and after which TimeoutExpired is raised.
    """
    program, *arguments = map(str, args)
    if not os.path.isabs(program):
        program = os.path.join(sysconfig.get_path("scripts"), program)
    if capture_output:
        kwargs.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with subprocess.Popen([program, *arguments], **kwargs) as process:
        try:
            yield process
        finally:
            _end(process, terminate_timeout, kill_timeout)


def _end(process: subprocess.Popen[bytes], terminate_timeout: float, kill_timeout: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=terminate_timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate(timeout=kill_timeout)
    if output:
        print(output.decode(errors="replace"))


def nodebug(func: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test without asyncio's debug mode."""

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = os.environ.pop("PYTHONASYNCIODEBUG", None)
        try:
            return func(*args, **kwargs)
        finally:
            if before is not None:
                os.environ["PYTHONASYNCIODEBUG"] = before

    return wrapped


def has_pytestmark(test_func: Callable[..., Any], name: str) -> bool:
    """Whether a test is marked with `@pytest.mark.<name>`."""
    return any(mark.name == name for mark in getattr(test_func, "pytestmark", []))
