"""Where settings come from besides `config.set`: files and variables of fastdist and of dask.

fastdist's own: `fastdist.yaml` in `/etc/fastdist`, `<prefix>/etc/fastdist` and the user's config folder, the
file that `FASTDIST_CONFIG` names, and the variables `FASTDIST_*`. dask's: what `dask.config` holds once dask is
imported; before that, the YAML and JSON files that dask would read, and the variables `DASK_*`. Later ones win.
Neither dask nor, without a YAML file that says something, PyYAML is imported. May import: errors, `config.table`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdist.config.quantities import literal
from fastdist.config.table import DASK_PREFIX, MAPPINGS, MOOT, PLANNED, PREFIX, RENAMED, RENAMED_TOP, SETTINGS
from fastdist.errors import ConfigurationError

#: Names in `dask.config` outside of `distributed`, and what they are here.
_TOP_NAMES = {
    setting.dask_name: name
    for name, setting in SETTINGS.items()
    if not setting.dask_name.startswith(DASK_PREFIX)
}
_INSIDE = {
    setting.dask_name.removeprefix(DASK_PREFIX): name
    for name, setting in SETTINGS.items()
    if setting.dask_name.startswith(DASK_PREFIX)
}
_KNOWN = {*SETTINGS, *PLANNED, *MOOT}


#: The variable by which dask hands its configuration down, and the most characters that we put there.
INHERITED = "DASK_INTERNAL_INHERIT_CONFIG"
MAX_INHERITED = 100_000


@dataclass(frozen=True)
class Found:
    """A value, as it was written, and where."""

    value: Any
    where: str


def canonical(name: str) -> str:
    """The name in the table's spelling: dashes and underscores are the same, `distributed.` may precede it."""
    if name in _KNOWN:
        return name
    name = name.removeprefix(DASK_PREFIX)
    name = RENAMED.get(name, name).replace("_", "-")
    return _INSIDE.get(name, name)


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested mappings, down to the values of settings."""
    for part, value in tree.items():
        name = canonical(f"{prefix}{part}")
        if isinstance(value, Mapping) and value and name not in MAPPINGS:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


def of_dask(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """What dask's nested configuration says about settings; names are canonical, unknown ones included."""
    inside = tree.get("distributed")
    found = dict(flatten(inside)) if isinstance(inside, Mapping) else {}
    for part, value in tree.items():
        name = str(part).replace("_", "-")
        if name in _TOP_NAMES:
            found[_TOP_NAMES[name]] = value
        elif name in RENAMED_TOP:
            found.setdefault(RENAMED_TOP[name], value)
    return found


def merge(into: dict[str, Found], found: Mapping[str, Any], where: str) -> None:
    """Let values win over earlier ones; mappings are united."""
    for name, value in found.items():
        before = into.get(name)
        if name in MAPPINGS and isinstance(value, Mapping) and before and isinstance(before.value, Mapping):
            value = {**before.value, **value}
        into[name] = Found(value, where)


# -- files ---------------------------------------------------------------------------------------------------


def dask_files(environment: Mapping[str, str]) -> list[Path]:
    """The files that dask reads, in its order."""
    import site

    places = [environment.get("DASK_ROOT_CONFIG", "/etc/dask")]
    places += [os.path.join(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)]
    places.append(os.path.join(os.path.expanduser("~"), ".config", "dask"))
    if "DASK_CONFIG" in environment:
        places.append(environment["DASK_CONFIG"])
    files = []
    for place in reversed(dict.fromkeys(reversed(places))):
        path = Path(place)
        if path.is_dir():
            # What the user may not list, dask does not see either.
            names = os.listdir(path) if os.access(path, os.R_OK | os.X_OK) else []
            files += sorted(path / name for name in names if Path(name).suffix.lower() in _SUFFIXES)
        elif path.exists():
            files.append(path)
    return files


_SUFFIXES = (".yaml", ".yml", ".json")


def own_files(environment: Mapping[str, str]) -> list[Path]:
    """The files of fastdist that exist.

    Raises
    ------
    ConfigurationError
        If `FASTDIST_CONFIG` names a file that does not exist.
    """
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    folders = ["/etc", os.path.join(sys.prefix, "etc"), home]
    files = [Path(folder, "fastdist", "fastdist.yaml") for folder in dict.fromkeys(folders)]
    found = [path for path in files if path.is_file()]
    named = environment.get("FASTDIST_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError(f"FASTDIST_CONFIG names {named!r}, which is no file")
        found.append(Path(named))
    return found


def read_file(path: Path) -> Mapping[Any, Any]:
    """The mapping in a YAML or JSON file; an empty one if it says nothing.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or is no mapping.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if all(not line or line.startswith("#") or line == "---" for line in map(str.strip, content.splitlines())):
            # dask leaves files behind in which all is commented out.
            return {}
        tree = _parse(content, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"the configuration file {path} must hold a mapping, not {type(tree).__name__}")
    return tree


def _parse(content: str, path: Path) -> Any:
    if path.suffix.lower() == ".json":
        import json

        try:
            return json.loads(content)
        except ValueError as error:
            raise ConfigurationError(f"the configuration file {path} is no JSON: {error}") from error
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(f"PyYAML is needed to read {path}: pip install pyyaml") from None
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the configuration file {path} is no YAML: {error}") from error


# -- variables -----------------------------------------------------------------------------------------------


def dask_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Name, value and variable of each `DASK_*` that says something about settings."""
    for variable, content in environment.items():
        if not variable.startswith("DASK_"):
            continue
        rest = variable[len("DASK_") :]
        path = rest.lower().replace("__", ".")
        top = path.replace("_", "-")
        if path.startswith(DASK_PREFIX):
            name, inner = split_variable(rest[len(DASK_PREFIX) + 1 :])
            yield name, {inner: literal(content)} if inner else literal(content), variable
        elif top in _TOP_NAMES:
            yield _TOP_NAMES[top], literal(content), variable
        elif top in RENAMED_TOP:
            yield RENAMED_TOP[top], literal(content), variable


def split_variable(rest: str) -> tuple[str, str]:
    """The setting that the rest of a variable's name stands for, and the entry of it if it is a mapping."""
    name = canonical(rest.lower().replace("__", "."))
    for outer in MAPPINGS:
        if name.startswith(f"{outer}."):
            # An entry may be case-sensitive, as environment variables are.
            return outer, rest[len(outer.replace(".", "__")) + 2 :]
    return name, ""


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Names with dots as nested mappings, as dask keeps them."""
    tree: dict[str, Any] = {}
    for name, value in changes.items():
        setting = SETTINGS.get(canonical(name))
        *parents, last = (setting.dask_name if setting else name).split(".")
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = nested(value) if isinstance(value, Mapping) else value
    return tree


def united(tree: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """A nested mapping with some values changed."""
    result = dict(tree)
    for part, value in changes.items():
        before = result.get(part)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[part] = united(before, value) if both else value  # type: ignore[arg-type]
    return result


def serialize(tree: Mapping[Any, Any]) -> str:
    """A configuration as dask hands it down to child processes; what is no plain value is left out."""
    import base64
    import json

    return base64.urlsafe_b64encode(json.dumps(_plain(tree)).encode()).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if isinstance(key, str) and _is_plain(inner)}
    return list(value) if isinstance(value, tuple) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    import json

    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def inherited(environment: Mapping[str, str]) -> Mapping[Any, Any]:
    """The configuration that a parent process of dask handed down, if it did."""
    content = environment.get(INHERITED)
    if not content:
        return {}
    import base64
    import json

    try:
        tree = json.loads(base64.urlsafe_b64decode(content.encode()).decode())
    except ValueError as error:
        raise ConfigurationError(f"{INHERITED} is unreadable: {error}") from error
    return tree if isinstance(tree, Mapping) else {}


# -- all together --------------------------------------------------------------------------------------------


def read_dask(environment: Mapping[str, str]) -> tuple[dict[str, Found], list[str]]:
    """What dask would find without being imported, and complaints about what cannot be read."""
    found: dict[str, Found] = {}
    complaints: list[str] = []
    for path in dask_files(environment):
        try:
            merge(found, of_dask(read_file(path)), str(path))
        except ConfigurationError as error:
            complaints.append(str(error))
    try:
        merge(found, of_dask(inherited(environment)), INHERITED)
    except ConfigurationError as error:
        complaints.append(str(error))
    for name, value, variable in dask_variables(environment):
        merge(found, {name: value}, variable)
    return found, complaints


def live_dask() -> Mapping[Any, Any] | None:
    """The configuration of dask if it is imported."""
    tree = getattr(sys.modules.get("dask.config"), "config", None)
    return tree if isinstance(tree, Mapping) else None


def look_up(tree: Mapping[Any, Any], name: str, missing: Any) -> Any:
    """The value of a setting in dask's nested configuration."""
    setting = SETTINGS.get(name)
    place: Any = tree
    for part in (setting.dask_name if setting else DASK_PREFIX + name).split("."):
        if not isinstance(place, Mapping):
            return missing
        place = place[part] if part in place else place.get(part.replace("-", "_"), missing)
        if place is missing:
            return missing
    return place


def read_own_files(environment: Mapping[str, str]) -> dict[str, Found]:
    """What the files of fastdist say; a `fastdist` or `distributed` at their top may be left out.

    Raises
    ------
    ConfigurationError
        If a file cannot be read.
    """
    found: dict[str, Found] = {}
    for path in own_files(environment):
        for part, value in read_file(path).items():
            inside = part in ("fastdist", "distributed") and isinstance(value, Mapping)
            merge(found, dict(flatten(value if inside else {part: value})), str(path))
    return found


def read_own_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Name, value and variable of each `FASTDIST_*` that is, or looks like, a setting; the value is still text."""
    by_variable = {setting.variable: name for name, setting in SETTINGS.items()}
    squeezed = {variable.replace("__", "_") for variable in by_variable}
    for variable, content in environment.items():
        if not variable.startswith(PREFIX):
            continue
        if variable in by_variable:
            yield by_variable[variable], content, variable
        elif "__" in variable or variable in squeezed:
            name, inner = split_variable(variable[len(PREFIX) :])
            yield name, {inner: literal(content)} if inner else content, variable
