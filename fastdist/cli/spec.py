"""`python -m fastdist.cli.spec`: run servers that a description in JSON or YAML names, until they are closed.

May import: every layer below `cli`, and `deploy`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import Any

from fastdist.cli.common import run_daemon, start_logging, until_stopped
from fastdist.deploy.process import run_spec
from fastdist.system.parent_watch import watch_parent

logger = logging.getLogger("fastdist.cli")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser("fastdist-spec", description=__doc__, allow_abbrev=False)
    options.add_argument("args", nargs="*", help="positional arguments of every class, as a scheduler's address")
    options.add_argument("--spec", help='{"cls": "fastdist.Nanny", "opts": {"nthreads": 1}}, or name -> such')
    options.add_argument("--spec-file", help="a YAML or JSON file with the same")
    options.add_argument("--parent", type=int, help="end when this process, which started this one, is gone")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the servers; returns the exit code."""
    command_line = parser()
    options = command_line.parse_args(arguments)
    if bool(options.spec) == bool(options.spec_file):
        command_line.error("exactly one of --spec and --spec-file is needed")
    try:
        spec = _read(options)
    except (ValueError, OSError, ImportError) as error:
        command_line.error(f"the specification cannot be read: {error}")
    if options.parent:
        watch_parent(options.parent)
    start_logging()

    async def serve(stop: asyncio.Future[str]) -> int:
        servers = await run_spec(spec, *options.args)
        reason = await until_stopped(stop, *(server.finished() for server in servers.values()))
        await asyncio.gather(*(server.close(reason=reason or "closed") for server in servers.values()))
        return 0

    try:
        return run_daemon(serve)
    except (OSError, ImportError, TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        logger.error("%s", error)
        return 1


def _read(options: argparse.Namespace) -> dict[str, Any]:
    if options.spec:
        spec = json.loads(options.spec)
    else:
        with open(options.spec_file) as file:
            text = file.read()
        try:
            spec = json.loads(text)
        except ValueError:
            import yaml

            spec = yaml.safe_load(text)
    if not isinstance(spec, dict):
        raise ValueError("a mapping is expected")
    if "cls" in spec:
        spec = {"server": spec}
    for name, each in spec.items():
        if not isinstance(each, dict) or not isinstance(each.get("cls"), str):
            raise ValueError(f"{name!r} has no class: cls is missing, or is no text")
    return spec


if __name__ == "__main__":
    sys.exit(main())
