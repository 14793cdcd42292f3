"""`python -m fastdist.as_distributed script.py ...` or `-m module ...`: runs a program that finds fastdist as
`distributed`. May import: the standard library.
"""

from __future__ import annotations

import os
import runpy
import sys

USAGE = """\
usage: python -m fastdist.as_distributed script.py [argument ...]
       python -m fastdist.as_distributed -m module [argument ...]

Runs a Python program in which `import distributed` and `dask.distributed` mean fastdist."""


def main(arguments: list[str]) -> int:
    """Run what the command line names, as `python` itself would; its exit code, if it names nothing.

    Parameters
    ----------
    arguments : list of str
        Without the name of this program.

    Examples
    --------
    >>> main(["--help"])
    usage: python -m fastdist.as_distributed script.py [argument ...]
           python -m fastdist.as_distributed -m module [argument ...]
    <BLANKLINE>
    Runs a Python program in which `import distributed` and `dask.distributed` mean fastdist.
    0
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    if not arguments or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    script = arguments[0]
    if not os.path.exists(script):
        print(f"python -m fastdist.as_distributed: there is no file {script!r}", file=sys.stderr)
        return 2
    sys.argv = arguments
    if not getattr(sys.flags, "safe_path", False):
        # In place of the current folder, which `python -m` has put there.
        sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
