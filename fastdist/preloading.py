"""Preloads: modules that a scheduler, worker, nanny or client loads at start, to be set up and torn down with it.

A preload is the name of a module, the path of a `.py` file, an `http(s)` address, or the text of a module (which is
told by a blank in it). It may define `dask_setup(server)`, a function, coroutine function or click command, and
`dask_teardown(server)`. May import: config.
"""

from __future__ import annotations

import asyncio
import filecmp
import hashlib
import importlib
import importlib.util
import inspect
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, cast, overload

from fastdist import config

Names = str | Sequence[str]
Arguments = Sequence[str] | Sequence[Sequence[str]]

logger = logging.getLogger("fastdist.preloading")

#: What a server of preloads answers when it may be asked again.
TRY_AGAIN = (429, 502, 503, 504)
#: Seconds before the second, third, ... attempt to fetch one.
PAUSES = (0.2, 0.4, 0.8)
#: Seconds that one attempt may take, and bytes that it may bring.
FETCH_TIMEOUT = 30.0
MAX_FETCHED_BYTES = 16 << 20


class Preload:
    """One preload of one server or client.

    Parameters
    ----------
    dask_object
        The scheduler, worker, nanny or client.
    name : str
        The module; see the top of this file.
    argv : iterable of str
        The command line of its setup, if that is a click command.
    file_dir : str, optional
        A folder that files are copied to before they are loaded.

    Raises
    ------
    Exception
        Whatever loading the module raises.

    Examples
    --------
    >>> preload = Preload("a server", "def dask_setup(server): print(server)", (), None)
    """

    def __init__(self, dask_object: Any, name: str, argv: Iterable[str], file_dir: str | None) -> None:
        self.dask_object = dask_object
        self.name = name
        self.argv = list(argv)
        self.file_dir = file_dir
        self.module = load(name, file_dir)
        setup = getattr(self.module, "dask_setup", None)
        if self.argv and _command(setup) is None:
            logger.debug("the preload %s takes no arguments; %s are for others", shown(name), self.argv)

    async def start(self) -> None:
        """Call its `dask_setup`."""
        setup = getattr(self.module, "dask_setup", None)
        if setup is None:
            return
        logger.info("Run preload setup: %s", shown(self.name))
        command = _command(setup)
        if command is None:
            result = setup(self.dask_object)
        else:
            context = command.make_context("dask_setup", list(self.argv), allow_extra_args=False)
            result = command.callback(self.dask_object, *context.args, **context.params)
        if inspect.isawaitable(result):
            await result

    async def teardown(self) -> None:
        """Call its `dask_teardown`."""
        function = getattr(self.module, "dask_teardown", None)
        if function is None:
            return
        logger.info("Run preload teardown: %s", shown(self.name))
        result = function(self.dask_object)
        if inspect.isawaitable(result):
            await result


class PreloadManager(Sequence[Preload]):
    """All preloads of one server or client; a failing setup of one is logged and keeps none of the others.

    Parameters
    ----------
    dask_server
        The scheduler, worker, nanny or client.
    preload : str or sequence of str
        The preloads.
    preload_argv : sequence
        Arguments for all of them, or a sequence of arguments for each.

    Raises
    ------
    ValueError
        If there are not as many sequences of arguments as preloads.
    """

    def __init__(self, dask_server: Any, preload: Names = (), preload_argv: Arguments = ()) -> None:
        self._server = dask_server
        self._names = [preload] if isinstance(preload, str) else list(preload)
        if not preload_argv or isinstance(preload_argv[0], str):
            self._arguments = [list(cast("Sequence[str]", preload_argv))] * len(self._names)
        else:
            self._arguments = [list(each) for each in preload_argv]
        if len(self._arguments) != len(self._names):
            counts = f"{len(self._names)} and {len(self._arguments)}"
            raise ValueError(f"preload and preload_argv have different lengths: {counts}")
        self._preloads: list[Preload] = []

    @classmethod
    def configured(
        cls, dask_server: Any, kind: str, preload: Names | None, preload_argv: Arguments | None
    ) -> PreloadManager:
        """Those that were asked for, or else those that the settings `<kind>.preload` and `-argv` name."""
        return cls(
            dask_server,
            config.get(f"{kind}.preload") if preload is None else preload,
            (config.get(f"{kind}.preload-argv") if preload_argv is None else preload_argv) or (),
        )

    def load(self, file_dir: str | None = None) -> None:
        """Load them; files are copied to `file_dir` before.

        Raises
        ------
        Exception
            Whatever loading a module raises.
        """
        pairs = zip(self._names, self._arguments, strict=True)
        self._preloads = [Preload(self._server, name, argv, file_dir) for name, argv in pairs]

    async def start(self, folder: Callable[[], str] | None = None) -> None:
        """Load those that are not loaded, and set them up, in order.

        Parameters
        ----------
        folder : callable, optional
            Gives the folder that files are copied to before they are loaded.

        Raises
        ------
        Exception
            Whatever loading a module raises.
        """
        if not self._names:
            return
        if not self._preloads:
            file_dir = None if folder is None else folder()
            if any(map(is_webaddress, self._names)):
                await asyncio.to_thread(self.load, file_dir)
            else:
                self.load(file_dir)
        for preload in self._preloads:
            try:
                await preload.start()
            except Exception:
                logger.exception("the setup of the preload %s failed", shown(preload.name))

    async def teardown(self) -> None:
        """Tear them down, the last one first."""
        preloads, self._preloads = self._preloads, []
        for preload in reversed(preloads):
            try:
                await preload.teardown()
            except Exception:
                logger.exception("the teardown of the preload %s failed", shown(preload.name))

    @overload
    def __getitem__(self, index: int) -> Preload: ...

    @overload
    def __getitem__(self, index: slice) -> list[Preload]: ...

    def __getitem__(self, index: int | slice) -> Preload | list[Preload]:
        return self._preloads[index]

    def __len__(self) -> int:
        return len(self._preloads)


def process_preloads(
    dask_server: Any, preload: Names, preload_argv: Arguments = (), *, file_dir: str | None = None
) -> PreloadManager:
    """Load the preloads of a server or client; nothing is set up yet. See `PreloadManager`.

    Raises
    ------
    ValueError
        If there are not as many sequences of arguments as preloads.
    Exception
        Whatever loading a module raises.
    """
    manager = PreloadManager(dask_server, preload, preload_argv)
    manager.load(file_dir)
    return manager


def validate_preload_argv(ctx: Any, param: Any, value: Sequence[str]) -> Sequence[str]:
    """The check of the arguments that follow `--preload` on a command line made with click.

    Raises
    ------
    click.UsageError
        If there are arguments and no preload takes them.
    """
    import click

    preloads = ctx.params.get("preload") or ()
    if value and not preloads:
        for argument in value:
            if argument.startswith("-"):
                raise click.NoSuchOption(argument)
        raise click.UsageError(f"unexpected arguments {' '.join(value)}: arguments for a preload follow --preload")
    try:
        check_arguments(preloads, value)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return value


def check_arguments(preloads: Sequence[str], argv: Sequence[str]) -> None:
    """See that the preloads understand their arguments, before anything is started.

    Raises
    ------
    ValueError
        If there are arguments, and not exactly one of the preloads takes any or it does not understand them.
    """
    modules = [load(name) for name in preloads if not is_webaddress(name)]
    commands = [command for module in modules if (command := _command(getattr(module, "dask_setup", None)))]
    if len(commands) > 1:
        raise ValueError("only one preload may have a dask_setup that is a click command")
    if argv and not commands and len(modules) == len(preloads):
        raise ValueError(f"no preload takes the arguments {' '.join(argv)}: none has a click command as dask_setup")
    if commands:
        click: Any = sys.modules["click"]
        try:
            commands[0].make_context("dask_setup", list(argv), allow_extra_args=False)
        except click.ClickException as error:
            raise ValueError(f"the preload does not understand its arguments: {error.format_message()}") from error


def _command(setup: Any) -> Any:
    """The setup if it is a click command, else None."""
    kind = getattr(sys.modules.get("click"), "Command", None)
    return setup if kind is not None and isinstance(setup, kind) else None


# -- loading -------------------------------------------------------------------------------------------------


def is_webaddress(name: str) -> bool:
    """Whether a preload has to be fetched."""
    return name.startswith(("http://", "https://"))


def shown(name: str) -> str:
    """A preload in one line."""
    line = name.strip().partition("\n")[0]
    return name if line == name else f"{line[:60]} ..."


def load(name: str, file_dir: str | None = None) -> ModuleType:
    """The module of a preload.

    Parameters
    ----------
    name : str
        See the top of this file.
    file_dir : str, optional
        A folder that a file is copied to before it is loaded.

    Raises
    ------
    Exception
        Whatever importing it, reading its file or fetching it raises.
    """
    if is_webaddress(name):
        return _from_text(_fetch(name), name)
    if name.endswith(".py") and "\n" not in name:
        return _from_file(name, file_dir)
    if " " in name:
        return _from_text(name, f"preload_{hashlib.sha256(name.encode()).hexdigest()[:12]}")
    logger.info("Import preload module: %s", name)
    return importlib.import_module(name)


def _from_file(path: str, file_dir: str | None) -> ModuleType:
    if file_dir is not None:
        copy = os.path.join(file_dir, os.path.basename(path))
        if not os.path.exists(copy):
            shutil.copy(path, copy)
        elif not filecmp.cmp(path, copy):
            logger.warning("%s differs from the preload of the same name before it, which it replaces", path)
            shutil.copy(path, copy)
        path = copy
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module", path=path)
    logger.info("Import preload module: %s", path)
    module = importlib.util.module_from_spec(spec)
    known = sys.modules.get(name)
    if known is None or getattr(known, "__file__", None) == path:
        # Its functions can be pickled by name then.
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _from_text(text: str, name: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def _fetch(address: str) -> str:
    # They take milliseconds to import and hardly anybody needs them.
    import urllib.error
    import urllib.request

    logger.info("Downloading preload at %s", address)
    for pause in (*PAUSES, None):
        try:
            with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT) as response:
                content = bytes(response.read(MAX_FETCHED_BYTES + 1))
        except urllib.error.HTTPError as error:
            # It holds an open connection.
            error.close()
            if pause is None or error.code not in TRY_AGAIN:
                raise
            time.sleep(pause)
            continue
        if len(content) > MAX_FETCHED_BYTES:
            raise ValueError(f"the preload at {address} has more than {MAX_FETCHED_BYTES} bytes")
        return content.decode()
    raise AssertionError("the last attempt returns or raises")
