"""Compare fastdist with its peers: the same workloads, each system in its own environment and processes.

    python bench/compare.py [--peers ...] [--workloads ...] [--repetitions 5] [--quick] [--json FILE]

Every run is a new process that starts a cluster of two single-threaded workers, warms it up, measures,
checks the answer and stops. Repetitions are interleaved and each round starts with another peer, so that what
else the machine does hits all of them alike. fastdist is the one that this interpreter imports, or else the
source tree around this file, built in place. May import: `peers`, but no single peer: its system may not be
installed here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from peers import workloads
from peers.report import Runs, report

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".venv-peers"
REQUIRED = "from peers.{module} import REQUIREMENTS; print(*REQUIREMENTS)"
PEERS = {
    "fastdist": "fastdist_daemons",
    "inprocess": "fastdist_inprocess",
    "relay": "relay",
    "dask": "dask_distributed",
    "ray": "ray_core",
    "processpool": "process_pool",
}


def python_path() -> str:
    """Where the measured processes find `peers`, and fastdist when it is not installed."""
    installed = importlib.util.find_spec("fastdist") is not None
    return str(HERE) if installed else os.pathsep.join([str(HERE), str(HERE.parent)])


def environment_of(module: str) -> Path:
    """The python of a peer's own environment, made and filled when it is not there yet."""
    requirements = requirements_of(module)
    if not requirements:
        return Path(sys.executable)
    folder = CACHE / f"{module}-{sys.implementation.cache_tag}"
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if not done.exists() or done.read_text() != " ".join(requirements):
        print(f"making an environment for {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *requirements], check=True, stdout=sys.stderr
        )
        done.write_text(" ".join(requirements))
    return python


def requirements_of(module: str) -> list[str]:
    """What a peer module says that it needs, read without importing its system."""
    command = [sys.executable, "-c", REQUIRED.format(module=module)]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def peer_facts(module: str) -> dict[str, Any]:
    """Which workloads a peer can run and whether it gets the small sizes."""
    code = (
        f"import json; from peers import drive, {module} as peer, workloads;"
        "can = [name for name in workloads.WORKLOADS if drive.can_run(peer, name)];"
        "print(json.dumps({'slow': peer.SLOW, 'can': can}))"
    )
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def run_once(python: Path, module: str, workload: str, size: int, timeout: float) -> dict[str, Any]:
    """One run in a new process; what went wrong comes back as `error`."""
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(),
            "FASTDIST_TOKEN_FILE": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_DEDUP_LOGS": "0",
        }
        process = subprocess.Popen(
            [str(python), "-m", "peers.drive", module, workload, str(size)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {"error": f"no answer after {timeout} s"}
    if process.returncode != 0:
        return {"error": f"exit code {process.returncode}: {errors.strip()[-1500:]}"}
    return dict(json.loads(output.strip().splitlines()[-1]))


def measure(options: argparse.Namespace) -> Runs:
    """All runs, interleaved."""
    pythons = {peer: environment_of(PEERS[peer]) for peer in options.peers}
    facts = {peer: peer_facts(PEERS[peer]) for peer in options.peers}
    results: Runs = {}
    for name in options.workloads:
        workload = workloads.WORKLOADS[name]
        sizes = {peer: workload.size(options.scale, facts[peer]["slow"]) for peer in options.peers}
        able = [peer for peer in options.peers if sizes[peer] and name in facts[peer]["can"]]
        results[name] = {peer: [] for peer in able}
        for repetition in range(options.repetitions):
            first = repetition % max(1, len(able))
            for peer in able[first:] + able[:first]:
                start = time.perf_counter()
                run = run_once(pythons[peer], PEERS[peer], name, sizes[peer], options.timeout)
                run["load"] = os.getloadavg()[0]
                results[name][peer].append(run)
                note = run.get("error", "ok")
                elapsed = time.perf_counter() - start
                print(
                    f"{name} {repetition + 1}/{options.repetitions} {peer}: {elapsed:.1f} s, {note}",
                    file=sys.stderr,
                )
    return results


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "processor": sorted(models),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def names(known: dict[str, Any]) -> Any:
    """An argument type: known names separated by commas."""

    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return wanted

    return parse


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; `--quick` and `--smoke` choose a scale and fewer repetitions."""
    parser = argparse.ArgumentParser(description="Compare fastdist with its peers.")
    parser.add_argument("--peers", type=names(PEERS), default=list(PEERS), help="of " + ",".join(PEERS))
    parser.add_argument(
        "--workloads",
        type=names(workloads.WORKLOADS),
        default=list(workloads.WORKLOADS),
        help="of " + ",".join(workloads.WORKLOADS),
    )
    parser.add_argument("--repetitions", type=int, help="runs of each (5; quick 3; smoke 1)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single run there")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", dest="scale", action="store_const", const="quick", help="small sizes")
    scale.add_argument(
        "--smoke", dest="scale", action="store_const", const="smoke", help="only that results are right"
    )
    options = parser.parse_args(arguments)
    options.scale = options.scale or "full"
    options.repetitions = options.repetitions or {"full": 5, "quick": 3, "smoke": 1}[options.scale]
    return options


def main() -> int:
    """Measure, print the table, keep the runs."""
    options = parse_arguments(sys.argv[1:])
    facts = machine()
    results = measure(options)
    if options.json is not None:
        options.json.write_text(
            json.dumps({"machine": facts, "scale": options.scale, "results": results}, indent=1)
        )
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"scale: {options.scale}; median of {options.repetitions}; CPU in microseconds per task\n")
    print(report(results))
    failed = [
        f"{name} on {peer}: {run['error']}"
        for name, peers in results.items()
        for peer, runs in peers.items()
        for run in runs
        if "error" in run
    ]
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
