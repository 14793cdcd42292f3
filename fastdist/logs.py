"""The last lines of a process' log, so that a client can ask for them.

May import: `config`.
"""

from __future__ import annotations

import logging
from collections import deque

from fastdist import config

#: Longest line that is kept.
MAX_LINE = 10_000


class LogRing(logging.Handler):
    """Keeps the last lines that a logger lets through.

    Parameters
    ----------
    logger : str
        The name of the logger.
    length : int, optional
        How many lines are kept; the setting `admin.log-length` by default.

    Examples
    --------
    >>> with LogRing("example") as ring:
    ...     logging.getLogger("example").warning("low on %s", "paper")
    ...     ring.lines()[0][0]
    'WARNING'
    """

    def __init__(self, logger: str = "fastdist", length: int | None = None) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(config.get("admin.log-format")))
        self._logger = logging.getLogger(logger)
        self._lines: deque[tuple[str, str]] = deque(
            maxlen=config.get("admin.log-length") if length is None else length
        )

    def __enter__(self) -> LogRing:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as text, so that nothing it refers to lives longer."""
        try:
            self._lines.append((record.levelname, self.format(record)[:MAX_LINE]))
        except Exception:
            self.handleError(record)
        # The presence of a ring must not keep warnings from the terminal of a program that sets up no logging.
        fallback = logging.lastResort
        if fallback is None or record.levelno < fallback.level or self._logger.handlers[0] is not self:
            return
        if not _shown(record):
            fallback.handle(record)

    def lines(self, n: int | None = None, start: int = 0) -> list[tuple[str, str]]:
        """(level, line) of the last lines, newest first.

        Parameters
        ----------
        n : int, optional
            How many; all by default.
        start : int
            How many of the newest to leave out.
        """
        newest_first = list(self._lines)[::-1]
        return newest_first[start:] if n is None else newest_first[start : start + n]

    def close(self) -> None:
        """Stop listening."""
        self._logger.removeHandler(self)
        super().close()


def _shown(record: logging.LogRecord) -> bool:
    """Whether some handler that is no ring gets this record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(not isinstance(handler, LogRing) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
