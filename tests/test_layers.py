"""The layers: a module imports only from its own layer's folder and from the layers below it.

May import: the standard library. It reads sources and imports none of them.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("SOURCE_TREE") or Path(__file__).resolve().parent.parent)
PACKAGE = ROOT / "fastdist"

LAYERS = (
    ("_core", "aliases", "errors", "late_imports", "planned_names", "system", "status"),
    (
        "attributes", "builtin_plugins", "config", "context", "logs", "loop", "plugins", "preloading", "protocol",
        "retries", "security", "uploads", "versions",
    ),
    ("comm",),
    ("rpc",),
    ("scheduler", "worker", "nanny"),
    ("client", "tasks"),
    ("deploy", "cli", "diagnostics", "compat", "testing", "utils_test"),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

FORBIDDEN_IN_CORE = {"asyncio", "logging", "os", "random", "select", "socket", "threading", "time"}
TOO_HEAVY = {"dask", "distributed", "numpy", "pandas", "tornado", "uvloop"}
CIMPORT = re.compile(r"^(?P<indent>\s*)(?:from\s+(?P<source>[\w.]+)\s+)?c?import\s+(?P<names>.+)$")


def sources() -> list[Path]:
    """Every source file of the package."""
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd"))


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """The modules that a file imports or cimports: dotted name, line, whether at module level."""
    text = path.read_text()
    if path.suffix == ".py":
        yield from imports_of_python(ast.parse(text), path)
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = CIMPORT.match(line)
        if match:
            names = [match["source"]] if match["source"] else re.findall(r"[\w.]+", match["names"])
            yield from ((name, number, not match["indent"]) for name in names)


def imports_of_python(tree: ast.Module, path: Path) -> Iterator[tuple[str, int, bool]]:
    """The same for a parsed Python module; what only type checkers see does not count."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    inside_functions = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for_type_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_type_checkers:
            continue
        at_module_level = id(node) not in inside_functions
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, at_module_level) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                source = ".".join([*package.split(".")[: -node.level], source]).rstrip(".")
            if source == "fastdist":
                yield from ((f"fastdist.{alias.name}", node.lineno, at_module_level) for alias in node.names)
            else:
                yield source, node.lineno, at_module_level


def part_of(module: str) -> str | None:
    """The folder or module directly below the package, of one of our modules."""
    words = module.split(".")
    return words[1] if words[0] == "fastdist" and len(words) > 1 else None


def own_part(path: Path) -> str:
    """The same for a file; the package's own `__init__.py` has none."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def test_every_folder_and_module_has_a_layer() -> None:
    unknown = {own_part(path) for path in sources()} - set(LAYER_OF) - {"", "as_distributed", "__main__"}
    assert not unknown, f"give these a place in LAYERS: {sorted(unknown)}"


def test_no_import_points_upwards() -> None:
    upwards = []
    for path in sources():
        own = own_part(path)
        if own not in LAYER_OF:
            continue
        for module, line, _ in imports(path):
            part = part_of(module)
            if part is not None and part != own and LAYER_OF.get(part, 99) > LAYER_OF[own]:
                upwards.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not upwards, "\n".join(upwards)


def test_the_core_imports_nothing_of_fastdist_but_itself_and_the_errors() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources()
        if own_part(path) == "_core"
        for module, line, _ in imports(path)
        if part_of(module) not in (None, "_core", "errors")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_does_no_io() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources()
        if own_part(path) == "_core"
        for module, line, _ in imports(path)
        if module.split(".")[0] in FORBIDDEN_IN_CORE
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_heavy_is_imported_at_module_level() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources()
        for module, line, at_module_level in imports(path)
        if at_module_level and module.split(".")[0] in TOO_HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_the_package_itself_imports_lazily() -> None:
    """`fastdist/__init__.py` may not import its own parts while it is imported."""
    eager = [
        f"line {line} imports {module}"
        for module, line, at_module_level in imports(PACKAGE / "__init__.py")
        if at_module_level and part_of(module) is not None
    ]
    assert not eager, "\n".join(eager)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from fastdist.errors import A", [("fastdist.errors", 1, True)]),
        ("cimport cython", [("cython", 1, True)]),
        ("from fastdist._core.codec.frames cimport X", [("fastdist._core.codec.frames", 1, True)]),
        ("def f():\n    import numpy", [("numpy", 2, False)]),
        ("import os, time", [("os", 1, True), ("time", 1, True)]),
    ],
)
def test_imports_of_cython_sources_are_seen(
    text: str, found: list[tuple[str, int, bool]], tmp_path: Path
) -> None:
    path = tmp_path / "example.pyx"
    path.write_text(text)
    assert list(imports(path)) == found


def test_imports_for_type_checkers_do_not_count() -> None:
    tree = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n")
    assert [name for name, _, _ in imports_of_python(tree, PACKAGE / "x.py")] == ["typing"]


def test_relative_imports_are_resolved() -> None:
    tree = ast.parse("from .core import A\nfrom ..errors import B\n")
    found = [name for name, _, _ in imports_of_python(tree, PACKAGE / "comm" / "tcp.py")]
    assert found == ["fastdist.comm.core", "fastdist.errors"]
