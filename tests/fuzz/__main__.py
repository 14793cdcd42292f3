"""`python -m tests.fuzz`: feed each target with damaged inputs; one that crashes it, hangs or is a finding is kept.

May import: tests.fuzz.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.driver import LastInput, run, run_with_atheris
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Run the targets one after the other; returns how many had a finding."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, help="of the inputs; the time by default")
    parser.add_argument("--engine", choices=["own", "atheris"], default="own", help="atheris sees Python code only")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where inputs are kept")
    parser.add_argument("--replay", type=Path, help="read one kept input again, by the one target that is named")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if options.replay:
        if len(options.targets) != 1:
            parser.error("--replay needs one target")
        print("accepted" if TARGETS[options.targets[0]]().take(options.replay.read_bytes()) else "refused")
        return 0
    if options.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install atheris")
    if options.seed is None:
        options.seed = int(time.time())
    if options.inside:
        return _run_inside(options)
    return sum(not _run_in_a_process(name, options) for name in options.targets or TARGETS)


def _run_in_a_process(name: str, options: argparse.Namespace) -> bool:
    """A crash ends only the child; True if nothing was found."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    command = [
        sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", name, "--inside", "--seconds", str(options.seconds),
        "--seed", str(options.seed), "--engine", options.engine, "--findings", str(folder),
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    if not ended.returncode:
        shutil.rmtree(folder)
        return True
    options.findings.mkdir(exist_ok=True)
    kept = options.findings / f"{name}-{options.seed}"
    if (folder / "last").exists():
        kept.write_bytes(LastInput.read(folder / "last"))
    print(f"{name}: exit code {ended.returncode}; the input is in {kept}, more in {folder}", flush=True)
    return False


def _run_inside(options: argparse.Namespace) -> int:
    target = TARGETS[options.targets[0]]()
    if options.engine == "atheris":
        run_with_atheris(target, options.findings, options.seconds)
        return 0
    begin = time.monotonic()
    try:
        count = run(
            target, seed=options.seed, inputs=None, seconds=options.seconds, last=LastInput(options.findings / "last")
        )
    except Exception:
        traceback.print_exc()
        return 1
    rate = count.inputs / (time.monotonic() - begin)
    print(
        f"{target.name}: {count.inputs} inputs ({rate:.0f} a second), {count.accepted} accepted, the slowest "
        f"{1000 * count.slowest:.1f} ms, seed {options.seed}: no findings",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
