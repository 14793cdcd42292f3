"""Build the compiled core.

Every `.pyx` below `fastdist/` is one extension module; the module name is its path.
`FASTDIST_DEBUG=1` switches all of Cython's run-time checks on, `FASTDIST_ANNOTATE=1`
writes the annotated HTML, `FASTDIST_SANITIZE=1` builds with AddressSanitizer and
UndefinedBehaviorSanitizer, and `FASTDIST_ONLY=keys,codec` builds only the modules
whose path holds one of the words. `FASTDIST_JOBS` bounds the parallel jobs (default: one per core).

Nothing is built twice: Cython compares each source and the headers that it cimports, setuptools each
translated file, and a change of flags, compiler or directives makes all of it old.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTDIST_DEBUG") == "1"
ANNOTATE = os.environ.get("FASTDIST_ANNOTATE") == "1"
SANITIZE = os.environ.get("FASTDIST_SANITIZE") == "1"
ONLY = [word for word in os.environ.get("FASTDIST_ONLY", "").split(",") if word]
JOBS = int(os.environ.get("FASTDIST_JOBS", 0)) or len(os.sched_getaffinity(0))
BUILD = Path("build/debug" if DEBUG or SANITIZE else "build")

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "binding": True,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "overflowcheck": False,
    "nonecheck": False,
    "profile": False,
    "linetrace": False,
    "freethreading_compatible": False,
}

OPTIMISE = ["-O0", "-g"] if DEBUG else [os.environ.get("FASTDIST_OPTIMISE", "-O2"), "-g0"]
WISHED_FLAGS = ["-std=c++17", "-fno-math-errno", "-fvisibility=hidden", "-Wno-unused-function"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]


def compiler_accepts(flag: str) -> bool:
    """Whether the C++ compiler of this machine takes `flag`."""
    compiler = os.environ.get("CXX", "c++").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text("int main() { return 0; }\n")
        command = [*compiler, "-Werror", flag, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def flags_file(flags: list[str]) -> Path:
    """A file that is newer than every module that was built with other flags."""
    path = BUILD / f"flags-{sys.implementation.cache_tag}.txt"
    wanted = repr((flags, DIRECTIVES, Cython.__version__, os.environ.get("CXX"), os.environ.get("CXXFLAGS")))
    if not path.exists() or path.read_text() != wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted)
    return path


def forget_old_translations() -> None:
    """Start anew after a change of Cython or its directives, which time stamps do not show."""
    path = BUILD / "translation.txt"
    wanted = repr((DIRECTIVES, Cython.__version__))
    if not path.exists() or path.read_text() != wanted:
        shutil.rmtree(BUILD / "cython", ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted)


def find_extensions() -> list[Extension]:
    """One C++ extension for every `.pyx` below the package."""
    flags = OPTIMISE + [flag for flag in WISHED_FLAGS if compiler_accepts(flag)]
    if SANITIZE:
        flags += SANITIZERS
    depends = [str(flags_file(flags))]
    extensions = []
    for source in sorted(Path("fastdist").rglob("*.pyx")):
        if ONLY and not any(word in source.as_posix() for word in ONLY):
            continue
        extensions.append(
            Extension(
                name=".".join(source.with_suffix("").parts),
                sources=[source.as_posix()],
                language="c++",
                depends=depends,
                extra_compile_args=flags,
                extra_link_args=SANITIZERS if SANITIZE else [],
            )
        )
    return extensions


def translate(extensions: list[Extension]) -> list[Extension]:
    """Turn the Cython sources that changed into C++."""
    forget_old_translations()
    if sys.platform.startswith("linux"):
        # Cython's helpers must not run this file again, as every other way to start them would.
        multiprocessing.set_start_method("fork", force=True)
    return cythonize(
        extensions,
        nthreads=JOBS if len(extensions) > 1 else 0,
        compiler_directives=DIRECTIVES,
        annotate=ANNOTATE,
        force=ANNOTATE,
        build_dir=str(BUILD / "cython"),
    )


class ParallelBuild(build_ext):
    """Compiles several modules at a time."""

    def finalize_options(self) -> None:
        """Use every core unless the command line says otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or JOBS


def main() -> None:
    """Translate and build the extensions."""
    asked_to_build = any(
        word.startswith(("build", "bdist", "develop", "install", "editable")) for word in sys.argv
    )
    setup(
        ext_modules=translate(find_extensions()) if asked_to_build else [],
        cmdclass={"build_ext": ParallelBuild},
        options={"build": {"build_base": str(BUILD)}},
    )


main()
