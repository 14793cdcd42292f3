"""What every source file has to be: short, documented, and free of the paths of somebody's machine.

May import: the standard library. It reads sources and imports none of them.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(os.environ.get("SOURCE_TREE") or Path(__file__).resolve().parent.parent)
PACKAGE = ROOT / "fastdist"
FOLDERS = ("fastdist", "tests", "bench", "examples")
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
CYTHON_FUNCTION = re.compile(
    r"^(?P<indent> *)(?:async def|def|cpdef|cdef(?! class| extern| enum| struct))\b.*\("
)
CDEF_CLASS = re.compile(r"^(?:cdef class|class) (?P<name>\w+)", re.MULTILINE)
# Put together so as not to find itself.
MACHINE_PATHS = re.compile(
    "|".join(["/" + "work/", "/opt" + "/dev", "/root" + "/", r"\.py" + r"env/versions/\d"])
)


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def files(*suffixes: str, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """The source files with one of the suffixes."""
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes
    )


def name_of(path: Path) -> str:
    """The path as the reader knows it."""
    return str(path.relative_to(ROOT))


def definitions(tree: ast.AST) -> Iterator[Definition]:
    """Every function and class of a module, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """First line and length of each function of a Cython source: up to the next line that is not deeper."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        match = CYTHON_FUNCTION.match(line)
        if not match or not (":" in line or line.rstrip().endswith((",", "("))):
            continue
        depth = len(match["indent"])
        end = start
        for number in range(start + 1, len(lines)):
            following = lines[number]
            if following.strip() and not following.lstrip().startswith((")", "#")):
                if len(following) - len(following.lstrip()) <= depth:
                    break
                end = number
        yield line.strip(), end - start + 1


def test_files_are_short() -> None:
    long = {
        name_of(path): len(path.read_text().splitlines()) for path in files(".py", ".pyx", ".pxd", ".pyi")
    }
    long = {name: lines for name, lines in long.items() if lines > MAX_FILE_LINES}
    assert not long, f"more than {MAX_FILE_LINES} lines: {long}"


def test_functions_are_short() -> None:
    long = []
    for path in files(".py"):
        for node in definitions(ast.parse(path.read_text())):
            length = (node.end_lineno or 0) - node.lineno + 1
            if not isinstance(node, ast.ClassDef) and length > MAX_FUNCTION_LINES:
                long.append(f"{name_of(path)}:{node.lineno} {node.name} has {length} lines")
    for path in files(".pyx"):
        for line, length in cython_functions(path.read_text()):
            if length > MAX_FUNCTION_LINES:
                long.append(f"{name_of(path)}: {line} has {length} lines")
    assert not long, "\n".join(long)


def test_every_file_says_what_it_is() -> None:
    silent = [
        name_of(path)
        for path in files(".py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    silent += [name_of(path) for path in files(".pyx") if not path.read_text().lstrip().startswith('"""')]
    silent += [
        name_of(path) for path in files(".pxd") if not path.read_text().lstrip().startswith(("#", '"""'))
    ]
    assert not silent, f"without a docstring at the top: {silent}"


def test_public_definitions_are_documented() -> None:
    """A method may inherit its documentation from the class that declares it."""
    trees = {path: ast.parse(path.read_text()) for path in files(".py", folders=("fastdist", "bench/peers"))}
    classes = {
        node.name: node
        for tree in trees.values()
        for node in definitions(tree)
        if isinstance(node, ast.ClassDef)
    }
    silent = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path, tree in trees.items()
        for node, owner in public_definitions(tree)
        if not ast.get_docstring(node) and not inherits_docstring(node.name, owner, classes)
    ]
    assert not silent, "without a docstring:\n" + "\n".join(silent)


def inherits_docstring(name: str, owner: ast.ClassDef | None, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a base of `owner`, however far up, documents the method `name`."""
    for base in owner.bases if owner is not None else []:
        parent = classes.get(ast.unparse(base).partition("[")[0].rpartition(".")[2])
        if parent is None or parent is owner:
            continue
        for inner in parent.body:
            if (
                isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                and inner.name == name
                and ast.get_docstring(inner)
            ):
                return True
        if inherits_docstring(name, parent, classes):
            return True
    return False


def public_definitions(tree: ast.Module) -> Iterator[tuple[Definition, ast.ClassDef | None]]:
    """Functions and classes at module level, and the methods of those classes, without what is private."""
    for node in tree.body:
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) or node.name.startswith("_"):
            continue
        yield node, None
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith(
                    "_"
                ):
                    decorators = {ast.unparse(decorator) for decorator in inner.decorator_list}
                    if not any("overload" in name or name.endswith(".setter") for name in decorators):
                        yield inner, node


def test_no_test_hides_another() -> None:
    hidden = []
    for path in files(".py", folders=("tests", "bench")):
        tree = ast.parse(path.read_text())
        scopes = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
        for scope in scopes:
            names = Counter(
                node.name
                for node in scope.body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
            )
            hidden += [f"{name_of(path)}: {name}" for name, count in names.items() if count > 1]
    assert not hidden, f"defined twice in one scope: {hidden}"


def test_compiled_modules_have_stubs() -> None:
    """A module that defines something Python can see has a `.pyi` beside it."""
    missing = [
        name_of(path)
        for path in files(".pyx", folders=("fastdist",))
        if re.search(r"^ *(def|cpdef [^(\n]*?)\b *[a-z]\w*\(", path.read_text(), re.MULTILINE)
        and not path.with_suffix(".pyi").exists()
    ]
    assert not missing, f"without a stub: {missing}"


def test_cython_headers_are_no_textual_includes() -> None:
    wrong = [
        f"{name_of(path)}:{number}"
        for path in files(".pyx", ".pxd")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*include\s+[\"']", line)
        or re.match(r"\s*cimport numpy|\s*from numpy\S* cimport", line)
    ]
    assert not wrong, f"textual includes and numpy's headers are not used: {wrong}"


def test_c_functions_state_what_an_exception_does() -> None:
    """Every `cdef` function that returns a C value says `except ...` or `noexcept`."""
    returns_object = re.compile(
        r"cdef\s+(inline\s+)?(object|bytes|str|list|tuple|dict|set|type|memoryview|bytearray)\s"
    )
    # `cdef [inline] type name(arguments)`, perhaps over several lines, up to its end
    function = re.compile(
        r"^[ ]*cdef\s+(?!class|extern|enum|struct|packed|cppclass|union)[^=\n(]*?\b\w+"
        r"\(([^()]|\([^()]*\))*\)(?P<contract>[^\n:]*)",
        re.MULTILINE,
    )
    sources = files(".pyx", ".pxd", folders=("fastdist",))
    classes = {found["name"] for path in sources for found in CDEF_CLASS.finditer(path.read_text())}
    silent = []
    for path in sources:
        text = without_external_blocks(path.read_text())
        for match in function.finditer(text):
            head = " ".join(match.group(0).split())
            c_value = re.match(
                r"cdef\s+(inline\s+)?(const\s+)?[\w.]+(\[.*\])?(\s*[*&]+\s*|\s+)\w+\s*\(", head
            )
            if c_value is None or returns_object.match(head) or returns_extension_class(head, classes):
                continue
            if "except" not in match["contract"]:  # also finds `noexcept`
                silent.append(f"{name_of(path)}: {head[:90]}")
    assert not silent, "\n".join(silent)


def returns_extension_class(head: str, classes: set[str]) -> bool:
    """Whether the result is an object of one of our classes: errors pass through those by themselves."""
    match = re.match(r"cdef\s+(?:inline\s+)?(?P<type>\w+)\s+\w+\s*\(", head)
    return match is not None and match["type"] in classes


def without_external_blocks(text: str) -> str:
    """The source without its `cdef extern` blocks, whose functions are declared and not defined."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.startswith("cdef extern"):
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = False
        if not inside:
            kept.append(line)
    return "\n".join(kept)


def test_no_path_of_a_machine_is_written_down() -> None:
    texts = [*files(".py", ".pyx", ".pxd", ".pyi", ".md"), *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    texts += [
        path
        for path in (ROOT / "Makefile", ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / ".ci" / "run")
        if path.exists()
    ]
    found = [
        f"{name_of(path)}:{number} {line.strip()[:80]}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert not found, "\n".join(found)
