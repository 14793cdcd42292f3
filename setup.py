"""Build the compiled core.

Every `.pyx` below `fastdist/` is one extension module; the module name is its path.
`FASTDIST_DEBUG=1` switches all of Cython's run-time checks on, `FASTDIST_ANNOTATE=1`
writes the annotated HTML, `FASTDIST_SANITIZE=1` builds with AddressSanitizer and
UndefinedBehaviorSanitizer, and `FASTDIST_ONLY=keys,codec` builds only the modules
whose path holds one of the words.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTDIST_DEBUG") == "1"
ANNOTATE = os.environ.get("FASTDIST_ANNOTATE") == "1"
SANITIZE = os.environ.get("FASTDIST_SANITIZE") == "1"
ONLY = [word for word in os.environ.get("FASTDIST_ONLY", "").split(",") if word]

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "binding": True,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "overflowcheck": False,
    "nonecheck": DEBUG,
    "profile": False,
    "linetrace": False,
    "freethreading_compatible": False,
}

OPTIMISE = ["-O0", "-g"] if DEBUG else [os.environ.get("FASTDIST_OPTIMISE", "-O2")]
WISHED_FLAGS = ["-std=c++17", "-fno-math-errno", "-fvisibility=hidden", "-Wno-unused-function"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]


def compiler_accepts(flag: str) -> bool:
    """Whether the C++ compiler of this machine takes `flag`."""
    compiler = os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text("int main() { return 0; }\n")
        command = [compiler, "-Werror", flag, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def find_extensions() -> list[Extension]:
    """One C++ extension for every `.pyx` below the package."""
    flags = OPTIMISE + [flag for flag in WISHED_FLAGS if compiler_accepts(flag)]
    link_flags: list[str] = []
    if SANITIZE:
        flags += SANITIZERS
        link_flags += SANITIZERS
    extensions = []
    for source in sorted(Path("fastdist").rglob("*.pyx")):
        if ONLY and not any(word in source.as_posix() for word in ONLY):
            continue
        extensions.append(
            Extension(
                name=".".join(source.with_suffix("").parts),
                sources=[source.as_posix()],
                language="c++",
                extra_compile_args=flags,
                extra_link_args=link_flags,
            )
        )
    return extensions


def main() -> None:
    """Translate and build the extensions."""
    asked_to_build = any(word.startswith(("build", "bdist", "develop", "install", "editable")) for word in sys.argv)
    extensions = []
    if asked_to_build:
        extensions = cythonize(
            find_extensions(),
            compiler_directives=DIRECTIVES,
            annotate=ANNOTATE,
            build_dir="build/cython",
        )
    setup(ext_modules=extensions)


main()
