"""Settings: one table that states each name, type, default and meaning.

A value comes from `config.set`, else from the variables `FASTDIST_*`, else from `fastdist.yaml`, else from dask's
configuration under `distributed`, else from the table. The variable of a setting is its name in capitals with
`__` for each dot and `_` for each dash: `FASTDIST_COMM__TIMEOUTS__CONNECT=10s`. May import: fastdist.errors.
"""

from __future__ import annotations

from fastdist.aliases import names_of
from fastdist.config.quantities import TimeLike, parse_bytes, parse_timedelta
from fastdist.config.sources import INHERITED
from fastdist.config.table import MOOT, PLANNED, SETTINGS, Setting
from fastdist.config.values import (
    REQUIRED,
    defaults,
    for_child,
    get,
    load,
    publish_defaults,
    read_environment,
    report,
    set,
)

__all__ = [
    "INHERITED",
    "MOOT",
    "PLANNED",
    "REQUIRED",
    "SETTINGS",
    "Setting",
    "TimeLike",
    "defaults",
    "for_child",
    "get",
    "load",
    "parse_bytes",
    "parse_timedelta",
    "publish_defaults",
    "read_environment",
    "report",
    "set",
]

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
