"""The journal: facts that let a scheduler that was killed go on where it was.

`records` is the form of a file, `folder` the place of the files, `writer` and `reader` what they say, `facts` which
events of the core are facts and how they are applied again, `journal` the part of a scheduler that does all this.
May import: the layers below and the other modules of `scheduler`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastdist import config

if TYPE_CHECKING:
    from fastdist.scheduler.journal.journal import Journal
    from fastdist.scheduler.scheduler import Scheduler


def open_journal(scheduler: Scheduler, path: str | os.PathLike[str] | None) -> Journal | None:
    """The journal that a scheduler is to keep, as one more of its extensions, or None; nothing is read yet."""
    path = config.get("scheduler.journal") if path is None else path
    if path is None:
        return None
    from fastdist.scheduler.journal.journal import Journal

    journal = scheduler.extensions[Journal.name] = Journal(scheduler, path)
    return journal
