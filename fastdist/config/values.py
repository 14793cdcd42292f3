"""Getting and setting: the order of the sources, and what is said about values that mean nothing.

The first that has a value wins: `config.set`, the variables `FASTDIST_*`, fastdist's files, dask's configuration,
the default. Mistakes in fastdist's own sources raise ConfigurationError; dask's configuration is shared with
others, so there they are named in the log, once. May import: errors, `config.sources`, `config.table`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastdist.config import sources
from fastdist.config.sources import Found, canonical
from fastdist.config.table import MOOT, PLANNED, SETTINGS, Setting
from fastdist.errors import ConfigurationError

logger = logging.getLogger("fastdist.config")

REQUIRED: Any = object()
_MISSING: Any = object()


@dataclass
class _State:
    """What is known: by `set`, from fastdist's sources, and what dask would find without being imported."""

    overrides: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    planned: dict[str, Found] = field(default_factory=dict)
    dask: dict[str, Found] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    heeds_dask: bool = True


_lock = threading.RLock()
_state: _State | None = None
_said: dict[str, None] = {}
_defaults = {setting.name: setting.parse(setting.default) for setting in SETTINGS.values()}


def _unknown(name: str, where: str, candidates: list[str]) -> ConfigurationError:
    import difflib

    near = difflib.get_close_matches(name, candidates, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(candidates)}"
    return ConfigurationError(f"unknown setting {name!r}{where}{hint}")


def _parsed(setting: Setting, value: Any, where: str) -> Any:
    try:
        return setting.parse(value)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"the setting {setting.name!r}{where} is wrong: {error}") from None


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings among the variables `FASTDIST_*`.

    Raises
    ------
    ConfigurationError
        If a variable looks like a setting and is none, or its value is wrong.
    """
    return _read_own(environment, {})[0]


def _read_own(
    environment: Mapping[str, str], found: dict[str, Found]
) -> tuple[dict[str, Any], dict[str, Found]]:
    """The values of settings and the names that have no feature yet, of files read before and of variables."""
    for name, value, variable in sources.read_own_variables(environment):
        if name not in SETTINGS and name not in PLANNED and name not in MOOT:
            raise _unknown(variable, " in the environment", sorted(each.variable for each in SETTINGS.values()))
        sources.merge(found, {name: value}, variable)
    values, planned = {}, {}
    for name, each in found.items():
        setting = SETTINGS.get(name)
        if setting is not None:
            values[name] = _parsed(setting, each.value, f" (from {each.where})")
        elif name in PLANNED:
            planned[name] = each
        elif name not in MOOT:
            raise _unknown(name, f" in {each.where}", sorted(SETTINGS))
    return values, planned


def load() -> None:
    """Read files and variables, once; daemons call it at start so that a wrong value is named there and then.

    Raises
    ------
    ConfigurationError
        If fastdist's files or variables have an unknown name or a wrong value.
    """
    _loaded()


def _loaded() -> _State:
    global _state
    state = _state
    if state is not None:
        return state
    with _lock:
        if _state is None:
            own, planned = _read_own(os.environ, sources.read_own_files(os.environ))
            dask, complaints = sources.read_dask(os.environ)
            _state = _State(own=own, planned=planned, dask=dask, complaints=complaints)
        return _state


def get(name: str, default: Any = REQUIRED) -> Any:
    """The value of a setting: seconds for durations, bytes for sizes.

    Parameters
    ----------
    name : str
        The setting; `distributed.` may precede it.
    default
        What to return if there is no such setting.

    Raises
    ------
    ConfigurationError
        If there is no such setting, and no default is given.

    Examples
    --------
    >>> get("scheduler.allowed-failures")
    3
    """
    setting = SETTINGS.get(name) or SETTINGS.get(canonical(name))
    if setting is None:
        if default is REQUIRED:
            raise _unknown(name, "", sorted(SETTINGS))
        return default
    state = _loaded()
    for values in (state.overrides, state.own):
        value = values.get(setting.name, _MISSING)
        if value is not _MISSING:
            return value
    return _from_dask(state, setting)


def _from_dask(state: _State, setting: Setting) -> Any:
    """The value in dask's configuration; the default if there is none, or it is wrong."""
    raw, where = _raw(state, setting.name)
    if raw is _MISSING:
        return _defaults[setting.name]
    try:
        return setting.parse(raw)
    except (ValueError, TypeError) as error:
        default = setting.default
        _say(f"the setting {setting.dask_name!r} ({where}) is wrong: {error}; {default!r} is used instead")
        return _defaults[setting.name]


def _raw(state: _State, name: str) -> tuple[Any, str]:
    if not state.heeds_dask:
        return _MISSING, ""
    found = state.dask.get(name)
    live = sources.live_dask()
    if live is None:
        return (_MISSING, "") if found is None else (found.value, found.where)
    value = sources.look_up(live, name, _MISSING)
    return value, found.where if found is not None and found.value == value else "in dask.config"


def _say(text: str) -> None:
    with _lock:
        if text in _said:
            return
        _said[text] = None
    logger.warning("%s", text)


def report() -> None:
    """Name in the log, once, what dask's configuration asks for in vain; clients and servers call it at start.

    These are unknown names, values of the wrong type, and settings whose feature is not built.
    """
    state = _loaded()
    for text in state.complaints:
        _say(text)
    for name, each in state.planned.items():
        _report_planned(name, each.value, each.where)
    if not state.heeds_dask:
        return
    live = sources.live_dask()
    names = state.dask if live is None else sources.of_dask(live)
    for name in names:
        raw, where = _raw(state, name)
        if name in SETTINGS:
            _from_dask(state, SETTINGS[name])
        elif name in PLANNED and raw is not _MISSING:
            _report_planned(name, raw, where)
        elif name not in PLANNED and name not in MOOT:
            import difflib

            known = difflib.get_close_matches(name, [*SETTINGS, *PLANNED], n=1)
            hint = f"; did you mean 'distributed.{known[0]}'?" if known else ""
            _say(f"the setting 'distributed.{name}' ({where or 'in dask.config'}) is unknown and ignored{hint}")


def _report_planned(name: str, value: Any, where: str) -> None:
    if value != PLANNED[name] and str(value) != str(PLANNED[name]):
        _say(f"the setting 'distributed.{name}: {value}' ({where}) has no effect: there is no feature for it yet")


def for_child(changes: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What a child process has to be told: the value of each setting, and dask's configuration if it is imported.

    Parameters
    ----------
    changes : mapping
        Names, or nested names as in dask's configuration, and values that differ from those of this process.

    Returns
    -------
    tuple
        Names and values for `set`, and the content of the variable `DASK_INTERNAL_INHERIT_CONFIG` or None.

    Raises
    ------
    ConfigurationError
        If one of the changes is an unknown setting, or its value is wrong.
    """
    values = {name: get(name) for name in SETTINGS}
    tree = sources.nested(changes)
    for name, value in sources.of_dask(tree).items():
        if name in SETTINGS:
            values[name] = _parsed(SETTINGS[name], value, "")
        elif name in PLANNED:
            _report_planned(name, value, "given for a worker")
        elif name not in MOOT:
            raise _unknown(name, "", sorted(SETTINGS))
    live = sources.live_dask()
    if live is None:
        return values, None
    text = sources.serialize(sources.united(live, tree))
    if len(text) > sources.MAX_INHERITED:
        _say(f"dask's configuration is too large for workers to inherit it: {len(text)} bytes")
        return values, None
    return values, text


def publish_defaults() -> None:
    """Have `dask.config` know the settings that dask.distributed would have told it, if dask is imported.

    Libraries ask `dask.config.get("distributed...")` without a default.
    """
    config: Any = sys.modules.get("dask.config")
    # Under `fastdist.as_distributed` that name is ours, which has told it nothing yet.
    told = sys.modules.get("distributed.config") not in (None, sys.modules["fastdist.config"])
    if config is None or told or not hasattr(config, "update_defaults"):
        return
    tree: dict[str, Any] = {}
    values = {setting.dask_name: setting.default for setting in SETTINGS.values()}
    values.update({f"distributed.{name}": value for name, value in PLANNED.items()})
    for name, value in values.items():
        *parents, last = name.split(".")
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    distributed = {"distributed": tree["distributed"]}
    if distributed not in config.defaults:
        config.update_defaults(distributed)


class set:
    """Change settings, for good or for the length of a `with` block.

    Parameters
    ----------
    settings : mapping
        Names and values; a value may have any form that its type understands.

    Raises
    ------
    ConfigurationError
        If a name is unknown or has no feature yet, or a value is wrong; nothing is changed then.

    Examples
    --------
    >>> with set({"comm.timeouts.connect": "1 min"}):
    ...     get("comm.timeouts.connect")
    60.0
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        parsed = {}
        for given, value in settings.items():
            name = canonical(given)
            setting = SETTINGS.get(name)
            if setting is not None:
                parsed[name] = _parsed(setting, value, "")
            elif name in PLANNED:
                raise ConfigurationError(f"the setting {name!r} has no effect: there is no feature for it yet")
            elif name not in MOOT:
                raise _unknown(given, "", sorted(SETTINGS))
        state = _loaded()
        with _lock:
            self._state = state
            self._before = {name: state.overrides.get(name, _MISSING) for name in parsed}
            state.overrides.update(parsed)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *details: object) -> None:
        with _lock:
            for name, value in self._before.items():
                if value is _MISSING:
                    self._state.overrides.pop(name, None)
                else:
                    self._state.overrides[name] = value


@contextmanager
def defaults() -> Iterator[None]:
    """Forget files, variables, dask and every `set` for the length of a `with` block; for tests."""
    global _state
    load()
    with _lock:
        before, _state = _state, _State(heeds_dask=False)
    try:
        yield
    finally:
        with _lock:
            _state = before
