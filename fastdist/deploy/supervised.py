"""A scheduler with a journal in a process of its own, which is started again when it dies.

May import: every layer below `deploy`, `deploy.subprocess`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdist import config
from fastdist.comm.addresses import parse_address
from fastdist.comm.token import TOKEN_FILE_VARIABLE, Token, create_token, read_token
from fastdist.config.table import SETTINGS
from fastdist.deploy.subprocess import SubprocessScheduler
from fastdist.status import Status

logger = logging.getLogger("fastdist.deploy")

#: Seconds between two looks whether the process is alive.
LOOK_PAUSE = 0.05
#: So many deaths within so many seconds, and it is not started again.
MAX_DEATHS = 5
DEATHS_SECONDS = 30.0


class SupervisedScheduler(SubprocessScheduler):
    """A scheduler in a child process, with a journal from which it goes on when it was killed.

    Parameters
    ----------
    journal : str
        The folder of the journal; the secret of the cluster is kept in it, too.
    scheduler_kwargs : mapping, optional
        Keywords of `Scheduler`, which must be JSON.

    Attributes
    ----------
    n_restarts : int
        How often the process was started again.
    """

    def __init__(self, journal: str, scheduler_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__({**(scheduler_kwargs or {}), "journal": journal})
        self.n_restarts = 0
        self._token_file = token_path(journal)
        self._deaths: list[float] = []
        self._watch: asyncio.Task[None] | None = None

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **changed_settings(), TOKEN_FILE_VARIABLE: str(self._token_file)}

    async def start(self) -> None:
        """Start the process, and look after it."""
        await super().start()
        assert self.address is not None
        # The next one is to be found where this one is; the file that told the address is gone.
        del self._spec["opts"]["scheduler_file"]
        self._spec["opts"]["port"] = parse_address(self.address).ports.start
        self._watch = asyncio.get_running_loop().create_task(self._look_after())

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            if self.process is None or self.process.poll() is None:
                continue
            code = self.process.returncode
            if self._died_too_often():
                logger.error("the scheduler at %s ended with code %d, too often to start it again", self.address, code)
                self.status = Status.failed
                return
            logger.warning("the scheduler at %s ended with code %d and is started again", self.address, code)
            self._launch()
            self.n_restarts += 1

    def _died_too_often(self) -> bool:
        now = time.monotonic()
        self._deaths = [*(death for death in self._deaths if now - death < DEATHS_SECONDS), now]
        return len(self._deaths) > MAX_DEATHS

    async def close(self, **kwargs: Any) -> None:
        """End the process for good."""
        if self._watch is not None:
            self._watch.cancel()
        await super().close(**kwargs)


def changed_settings() -> dict[str, str]:
    """The settings of this process that are not the defaults, as variables for a child; only single values."""
    found = {}
    for setting in SETTINGS.values():
        value = config.get(setting.name)
        if isinstance(value, (bool, int, float, str)) and value != setting.parse(setting.default):
            found[setting.variable] = str(value)
    return found


def token_path(journal: str | os.PathLike[str]) -> Path:
    """The file with the secret of those who use this journal."""
    return Path(os.path.abspath(os.fspath(journal))) / "token"


def journal_token(journal: str | os.PathLike[str]) -> Token:
    """The secret kept beside a journal, made at the first use.

    Raises
    ------
    TokenError
        If the file is not this user's alone.
    """
    path = token_path(journal)
    os.makedirs(path.parent, mode=0o700, exist_ok=True)
    create_token(path)
    return read_token(path, f"from {path}, beside the journal")
