"""`fastdist-scheduler`: run a scheduler until it is told to end.

May import: every layer below `cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import sys

from fastdist.cli.common import (
    Switch,
    choose_token,
    make_parser,
    parse_arguments,
    pid_file,
    refuse_unbuilt,
    run_daemon,
    seconds,
    start_logging,
    until_stopped,
)
from fastdist.comm.token import Token
from fastdist.loop import QuickLoop, new_event_loop

logger = logging.getLogger("fastdist.scheduler")

DEFAULT_PORT = 8786


def parser() -> argparse.ArgumentParser:
    """The command line of the scheduler."""
    options = make_parser("fastdist-scheduler", "Run a fastdist scheduler.")
    options.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on, 0 for any (8786)")
    options.add_argument("--idle-timeout", type=seconds, help="close after so long without work, as 10m")
    options.add_argument(
        "--admin-code",
        action=Switch,
        default=True,
        help="whether clients may bring code for the scheduler itself: run_on_scheduler, scheduler plugins (yes)",
    )
    options.add_argument(
        "--journal", help="folder of a journal, with which a scheduler that was killed goes on when it is started again"
    )
    options.add_argument("--jupyter", action=Switch, help="not built yet")
    options.add_argument("--show", action=Switch, help="deprecated, without effect")
    options.add_argument("--use-xheaders", action=Switch, help="deprecated, without effect")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    command_line = parser()
    options = parse_arguments(command_line, arguments)
    refuse_unbuilt(command_line, options, "jupyter")
    start_logging()
    token = choose_token(command_line, options)
    _raise_limits()

    async def serve(stop: asyncio.Future[str]) -> int:
        return await _serve(options, token, stop)

    try:
        with pid_file(options.pid_file):
            return run_daemon(serve, new_event_loop())
    except OSError as error:
        logger.error("%s", error)
        return 1


async def _serve(options: argparse.Namespace, token: Token | None, stop: asyncio.Future[str]) -> int:
    from fastdist.scheduler.scheduler import Scheduler

    scheduler = Scheduler(
        host=options.host or None,
        port=options.port,
        protocol="tcp",
        interface=options.interface,
        token=token,
        insecure=options.insecure,
        idle_timeout=options.idle_timeout,
        scheduler_file=options.scheduler_file,
        admin_code=options.admin_code,
        journal=options.journal,
        preload=options.preload,
        preload_argv=options.preload_argv if options.preload else None,
    )
    loop = asyncio.get_running_loop()
    if isinstance(loop, QuickLoop):
        scheduler.spin = loop.selector.spin
    await scheduler
    reason = await until_stopped(stop, scheduler.finished())
    await scheduler.close(reason=reason or "the scheduler closed")
    logger.info("Stopped scheduler at %s", scheduler.address)
    return 0


def _raise_limits() -> None:
    """Room for many connections, and fewer garbage collections for a process full of long-lived objects."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, hard // 2)
    if hard != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    gc.set_threshold(*(3 * threshold for threshold in gc.get_threshold()))


if __name__ == "__main__":
    sys.exit(main())
