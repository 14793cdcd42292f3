"""The plugins that come with fastdist: sending code along, installing packages, forwarding output and logs.

May import: `plugins`, `system`, the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastdist.plugins import NannyPlugin, SchedulerPlugin, WorkerPlugin, raise_failures
from fastdist.system.whereabouts import this_process

logger = logging.getLogger("fastdist.plugins")

#: Where an upload goes.
UPLOAD_MODES = ("all", "scheduler", "workers")


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class UploadFile(WorkerPlugin):
    """Puts a file on every worker, now and later.

    Parameters
    ----------
    filepath : path
        A file of this machine; a `.py` file or an `.egg`, `.zip` or `.pyz` archive can be imported there.
    load : bool
        Whether to import it at once.

    Examples
    --------
    >>> client.register_plugin(UploadFile("tools.py"))  # doctest: +SKIP
    """

    name = "upload_file"

    def __init__(self, filepath: str | os.PathLike[str], load: bool = True) -> None:
        self.filename = os.path.basename(filepath)
        self.load = load
        self.data = _read(filepath)

    async def setup(self, worker: Any) -> None:
        await worker.upload_file(self.filename, self.data, load=self.load)


class SchedulerUploadFile(SchedulerPlugin):
    """Puts a file on the scheduler; parameters as of `UploadFile`."""

    name = "upload_file"

    def __init__(self, filepath: str | os.PathLike[str], load: bool = True) -> None:
        self.filename = os.path.basename(filepath)
        self.load = load
        self.data = _read(filepath)

    async def start(self, scheduler: Any) -> None:
        await scheduler.upload_file(self.filename, self.data, load=self.load)


def is_compiled(path: str) -> bool:
    """Whether a file is what Python makes of a source, which the other side makes for itself."""
    return os.path.splitext(path)[1] == ".pyc"


class UploadDirectory(SchedulerPlugin):
    """Puts a folder on every worker, now and later, so that what is in it can be imported.

    Parameters
    ----------
    path : path
        A folder of this machine.
    restart_workers : bool
        Whether to start the workers anew, so that they import what they had imported before.
    update_path : bool
        Whether the modules in the folder can be imported by their bare names, too.
    skip_words : sequence of str
        Files and folders of these names are left out.
    skip : sequence of callable
        Called with the path of each file; those for which one says yes are left out.
    mode : str
        Where it goes: `"workers"`, `"scheduler"` or `"all"`.

    Examples
    --------
    >>> client.register_plugin(UploadDirectory("mylibrary"))  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        restart_workers: bool = False,
        update_path: bool = False,
        skip_words: Sequence[str] = (".git", ".github", ".pytest_cache", "tests", "docs"),
        skip: Sequence[Callable[[str], bool]] = (is_compiled,),
        mode: str = "workers",
    ) -> None:
        if mode not in UPLOAD_MODES:
            raise ValueError(f"mode= is one of {', '.join(map(repr, UPLOAD_MODES))}, not {mode!r}")
        source = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(source):
            raise NotADirectoryError(f"{source!r} is no folder; UploadFile is for single files")
        self.path = os.path.basename(source)
        self.restart_workers = restart_workers
        self.update_path = update_path
        self.mode = mode
        self.name = f"upload-directory-{self.path}"
        self.data = packed_folder(source, skip_words, skip)

    async def start(self, scheduler: Any) -> None:
        if self.mode in ("all", "scheduler"):
            scheduler.upload_archive(self.path, self.data, self.update_path)
        if self.mode in ("all", "workers"):
            plugin = _UnpackOnWorker(self.path, self.data, self.update_path)
            raise_failures(
                await scheduler.register_worker_plugin(
                    None, scheduler.dump_plugin(plugin), name=self.name, idempotent=False
                )
            )
            if self.restart_workers:
                await scheduler.restart_workers()


class _UnpackOnWorker(WorkerPlugin):
    def __init__(self, path: str, data: bytes, update_path: bool) -> None:
        self.path, self.data, self.update_path = path, data, update_path

    def setup(self, worker: Any) -> None:
        worker.upload_archive(self.path, self.data, self.update_path)


def packed_folder(source: str, skip_words: Sequence[str], skip: Sequence[Callable[[str], bool]]) -> bytes:
    """A zip archive of a folder whose names begin with that of the folder."""
    content = io.BytesIO()
    parent = os.path.dirname(source)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(name for name in folders if name not in skip_words)
            for name in sorted(files):
                path = os.path.join(folder, name)
                if name not in skip_words and not any(leave_out(path) for leave_out in skip):
                    archive.write(path, os.path.relpath(path, parent))
    return content.getvalue()


class Environ(NannyPlugin):
    """Sets environment variables for the processes of the workers, which are started anew.

    Parameters
    ----------
    environ : mapping, optional
        Names and values.

    Examples
    --------
    >>> client.register_plugin(Environ({"OMP_NUM_THREADS": 4}))  # doctest: +SKIP
    """

    restart = True

    def __init__(self, environ: Mapping[str, Any] | None = None) -> None:
        self.environ = {str(name): str(value) for name, value in (environ or {}).items()}

    def setup(self, nanny: Any) -> None:
        nanny.env.update(self.environ)


# -- installing -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Keep the other processes of this user on this machine from doing the same meanwhile."""
    path = os.path.join(tempfile.gettempdir(), f"fastdist-{os.getuid()}-{what}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def install(function: Callable[[], None]) -> None:
    """Run an installer in a thread, one at a time on this machine."""

    def run() -> None:
        with one_at_a_time("install"):
            function()

    await asyncio.get_running_loop().run_in_executor(None, run)


class InstallPlugin(SchedulerPlugin):
    """Installs software on the scheduler and on every worker, now and later.

    Parameters
    ----------
    install_fn : callable
        Installs it; it may be called more than once on a machine.
    restart_workers : bool
        Whether to start the workers anew afterwards; they need nannies for that.
    """

    idempotent = True

    def __init__(self, install_fn: Callable[[], None], restart_workers: bool = False) -> None:
        self._install_fn = install_fn
        self.restart_workers = restart_workers
        self.name = f"{type(self).__name__}-{uuid.uuid4()}"
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        await install(self._install_fn)
        if self.restart_workers:
            plugin: Any = _InstallOnNanny(self._install_fn)
            register = scheduler.register_nanny_plugin
        else:
            plugin, register = _InstallOnWorker(self._install_fn), scheduler.register_worker_plugin
        raise_failures(await register(None, scheduler.dump_plugin(plugin), name=self.name, idempotent=True))

    async def close(self) -> None:
        if self._scheduler is None or self._scheduler.closing:
            return
        if self.restart_workers:
            await self._scheduler.unregister_nanny_plugin(None, name=self.name)
        else:
            await self._scheduler.unregister_worker_plugin(None, name=self.name)


class _InstallOnWorker(WorkerPlugin):
    def __init__(self, install_fn: Callable[[], None]) -> None:
        self._install_fn = install_fn

    async def setup(self, worker: Any) -> None:
        await install(self._install_fn)


class _InstallOnNanny(NannyPlugin):
    restart = True

    def __init__(self, install_fn: Callable[[], None]) -> None:
        self._install_fn = install_fn

    async def setup(self, nanny: Any) -> None:
        await install(self._install_fn)


class PipInstall(InstallPlugin):
    """Installs packages with pip on the scheduler and on every worker, now and later.

    Parameters
    ----------
    packages : list of str
        As in a requirements file; `${NAME}` stands for an environment variable.
    pip_options : list of str, optional
        Further options of `pip install`.
    restart_workers : bool
        Whether to start the workers anew afterwards.

    Examples
    --------
    >>> client.register_plugin(PipInstall(["six"], pip_options=["--upgrade"]))  # doctest: +SKIP
    """

    def __init__(
        self, packages: list[str], pip_options: list[str] | None = None, restart_workers: bool = False
    ) -> None:
        super().__init__(_PipInstaller(packages, pip_options or []), restart_workers)


class CondaInstall(InstallPlugin):
    """Installs packages with conda; parameters as of `PipInstall`."""

    def __init__(
        self, packages: list[str], conda_options: list[str] | None = None, restart_workers: bool = False
    ) -> None:
        super().__init__(_CondaInstaller(packages, conda_options or []), restart_workers)


class _PipInstaller:
    def __init__(self, packages: list[str], options: list[str]) -> None:
        self.packages, self.options = list(packages), list(options)

    def __call__(self) -> None:
        # A file, because pip puts in the values of environment variables only there.
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(self.packages) + "\n")
            file.flush()
            run_installer("pip", [sys.executable, "-m", "pip", "install", *self.options, "-r", file.name])


class _CondaInstaller:
    def __init__(self, packages: list[str], options: list[str]) -> None:
        self.packages, self.options = list(packages), list(options)

    def __call__(self) -> None:
        conda = os.environ.get("CONDA_EXE") or shutil.which("conda")
        if conda is None:
            raise RuntimeError("conda install failed: there is no conda on the path of this process")
        run_installer("conda", [conda, "install", "--yes", *self.options, *self.packages])


def run_installer(what: str, command: list[str]) -> None:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        With what it wrote, if it fails.
    """
    logger.info("running %s", " ".join(command))
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        message = (done.stderr or done.stdout).strip()[-4_000:]
        raise RuntimeError(f"{what} install failed with exit code {done.returncode}: {message}")


# -- output and logs --------------------------------------------------------------------------------------------------


class ForwardOutput(WorkerPlugin):
    """Sends what worker processes write to stdout and stderr to the clients, line by line.

    A worker inside of the client's process is left alone: its output is there already.

    Examples
    --------
    >>> client.register_plugin(ForwardOutput())  # doctest: +SKIP
    """

    name = "forward-output"

    def __init__(self) -> None:
        self._replaced: list[tuple[str, Any]] = []

    def setup(self, worker: Any) -> None:
        if worker.in_process:
            return
        for number, name in ((1, "stdout"), (2, "stderr")):
            original = getattr(sys, name)
            self._replaced.append((name, original))
            setattr(sys, name, _ForwardedStream(original, worker, number))

    def teardown(self, worker: Any) -> None:
        for name, original in self._replaced:
            getattr(sys, name).flush()
            setattr(sys, name, original)
        self._replaced.clear()


class _ForwardedStream(io.TextIOBase):
    """A text stream that also tells the clients, in whole lines."""

    def __init__(self, original: Any, worker: Any, number: int) -> None:
        self._original, self._worker, self._number = original, worker, number
        self._pieces: list[str] = []

    def write(self, text: str) -> int:
        self._pieces.append(text)
        if "\n" in text or "\r" in text:
            self._send()
        return int(self._original.write(text))

    def flush(self) -> None:
        self._send()
        self._original.flush()

    def _send(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._worker.log_event(
                "print",
                {
                    "args": ["".join(pieces)],
                    "sep": "",
                    "end": "",
                    "file": self._number,
                    "flush": True,
                    "process": this_process(),
                },
            )

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._original.fileno())

    def isatty(self) -> bool:
        return bool(self._original.isatty())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._original.encoding)


class ForwardLoggingPlugin(WorkerPlugin):
    """Sends the records of a logger of each worker as events; `Client.forward_logging` registers it.

    Parameters
    ----------
    logger_name : str or None
        The logger; None for the root.
    level : int or str
        Records below it are not sent.
    topic : str
        The topic of the events.
    """

    def __init__(self, logger_name: str | None, level: int | str, topic: str) -> None:
        self.logger_name, self.level, self.topic = logger_name, level, topic
        self.handler: logging.Handler | None = None

    def setup(self, worker: Any) -> None:
        self.handler = _EventHandler(worker, self.topic, self.level)
        logging.getLogger(self.logger_name).addHandler(self.handler)

    def teardown(self, worker: Any) -> None:
        if self.handler is not None:
            logging.getLogger(self.logger_name).removeHandler(self.handler)
            self.handler = None


class _EventHandler(logging.Handler):
    """Makes an event of each record."""

    def __init__(self, worker: Any, topic: str, level: int | str) -> None:
        super().__init__(level)
        self._worker, self._topic = worker, topic

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "worker", None) is not None:
            # It was forwarded already, to a client in this very process.
            return
        try:
            self._worker.log_event(self._topic, record_fields(record, self._worker.address))
        except Exception:
            self.handleError(record)


def record_fields(record: logging.LogRecord, worker: str) -> dict[str, Any]:
    """The parts of a log record that can travel; objects in it become text."""
    fields = {
        name: value
        for name, value in vars(record).items()
        if isinstance(value, str | int | float | None) and name not in ("message", "args", "exc_info")
    }
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields.update(msg=record.getMessage(), args=None, exc_info=None, worker=worker)
    return fields
