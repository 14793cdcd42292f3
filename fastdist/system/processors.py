"""How many processors this process may use.

May import: `fastdist.system`.
"""

from __future__ import annotations

import math
import os

from fastdist.system.memory import control_group_folders


def processor_count() -> int:
    """Processors that this process may use: its affinity, cut by the quota of its control groups; at least 1.

    Example
    -------
    >>> processor_count() >= 1
    True
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


def _quotas() -> list[int]:
    quotas = []
    for folder in control_group_folders("cpu"):
        try:
            words = (folder / "cpu.max").read_text().split()
        except OSError:
            words = []
        # Not inside the handler: Ctrl-C here would show that file as the error it came from.
        words = words or _first_version(folder)
        if len(words) == 2 and words[0] not in ("max", "-1"):
            quotas.append(math.ceil(int(words[0]) / int(words[1])))
    return quotas


def _first_version(folder: os.PathLike[str]) -> list[str]:
    words = []
    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
        try:
            with open(os.path.join(folder, name)) as limit:
                words.append(limit.read().strip())
        except OSError:
            return []
    return words
