"""What both daemons share: options, refusals, signals, the pid file.

An option whose feature is not built makes the daemon exit with 2 and name it, except where ignoring it does
no harm: `--no-dashboard`, `--no-jupyter`, the deprecated `--show`, `--no-show` and `--use-xheaders`, and the
values of `--dashboard-address` that scripts write to avoid a clash of ports (`:8787`, `:0`).

May import: every layer below `cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastdist import config
from fastdist.comm.token import Token, find_token
from fastdist.config import parse_timedelta
from fastdist.preloading import check_arguments
from fastdist.system.signals import on_termination

logger = logging.getLogger("fastdist.cli")

#: `--name` and `--no-name`.
Switch = argparse.BooleanOptionalAction

HARMLESS_DASHBOARD_ADDRESSES = (None, "", ":8787", ":0")


def seconds(text: str) -> float:
    """Seconds of a text such as `"90"`, `"5s"`, `"10 minutes"`.

    Raises
    ------
    argparse.ArgumentTypeError
        The text is not a length of time.

    Example
    -------
    >>> seconds("2 min")
    120.0
    """
    try:
        return parse_timedelta(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        try:
            number = importlib.metadata.version("fastdist")
        except importlib.metadata.PackageNotFoundError:
            number = "(not installed)"
        print(f"{parser.prog} {number}")
        parser.exit()


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every daemon has."""
    parser = argparse.ArgumentParser(program, description=description, allow_abbrev=False)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    parser.add_argument("--host", help="URI, IP or hostname to bind to; all interfaces by default")
    parser.add_argument("--interface", help="network interface to bind to, for example eth0")
    parser.add_argument("--protocol", help="tcp; others are not built yet")
    parser.add_argument("--tls-ca-file", help="not built yet")
    parser.add_argument("--tls-cert", help="not built yet")
    parser.add_argument("--tls-key", help="not built yet")
    parser.add_argument("--token-file", help="file with the cluster's token; the user's own by default")
    parser.add_argument("--insecure", action="store_true", help="serve anybody, without a token")
    parser.add_argument("--dashboard-address", help="not built yet: only :8787 and :0 are accepted")
    parser.add_argument("--dashboard", action=Switch, help="not built yet")
    parser.add_argument("--dashboard-prefix", help="not built yet")
    parser.add_argument("--pid-file", help="file to write the process id to; removed at exit")
    parser.add_argument("--scheduler-file", help="file with the address of the scheduler")
    parser.add_argument(
        "--preload", action="append", help="module, file, address or text to load; its arguments come last"
    )
    return parser


def refuse_unbuilt(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """Exit with 2 if an option was given that is not built yet; `names` are those of one daemon only."""
    refused = ["tls_ca_file", "tls_cert", "tls_key", "dashboard_prefix", *names]
    if options.dashboard_address not in HARMLESS_DASHBOARD_ADDRESSES:
        refused.append("dashboard_address")
    if options.dashboard:
        refused.append("dashboard")
    if options.protocol not in (None, "", "tcp", "tcp://"):
        refused.append("protocol")
    for name in refused:
        value = getattr(options, name)
        if value not in (None, "", False, [], 0):
            parser.error(f"--{name.replace('_', '-')} {_show(value)}is not built yet")


def _show(value: object) -> str:
    return "" if value is True else f"{' '.join(value) if isinstance(value, list) else value} "


def parse_arguments(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line; what is no option of the daemon is for its preload, as `preload_argv`.

    A first argument is the daemon's own if it takes one. Without `--preload`, unknown options are refused.
    """
    given = sys.argv[1:] if arguments is None else arguments
    known, rest = _split(parser, given)
    takes_one = any(not action.option_strings for action in parser._actions)
    if takes_one and rest and not rest[0].startswith("-"):
        known.append(rest.pop(0))
    options = parser.parse_args(known)
    if rest and not options.preload:
        parser.error(f"unrecognized arguments: {' '.join(rest)}; arguments for a preload need --preload")
    try:
        if options.preload:
            check_arguments(options.preload, rest)
    except (ValueError, ImportError, OSError) as error:
        parser.error(f"--preload: {error}")
    options.preload_argv = rest
    return options


def _split(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The options of the parser with their values, and everything else."""
    known: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, separator, _ = argument.partition("=")
        action = parser._option_string_actions.get(name)
        if argument == "--":
            rest.extend(left)
        elif action is None:
            rest.append(argument)
        else:
            known.append(argument)
            if action.nargs is None and not separator:
                known.extend(itertools.islice(left, 1))
    return known, rest


def choose_token(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Token | None:
    """The token of this daemon; None with `--insecure`."""
    if options.insecure:
        if options.token_file:
            parser.error("--insecure and --token-file contradict each other")
        logger.warning("--insecure: whoever reaches the port can run code as this user")
        return None
    try:
        return find_token(options.token_file)
    except OSError as error:
        parser.error(str(error))


def start_logging() -> None:
    """Log to stderr, from INFO on, and name the settings that mean nothing."""
    logging.basicConfig(format=config.get("admin.log-format"), stream=sys.stderr)
    logging.getLogger("fastdist").setLevel(logging.INFO)
    config.report()


@contextlib.contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep the process id in a file while the block runs."""
    if not path:
        yield
        return
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def run_daemon(
    main: Callable[[asyncio.Future[str]], Coroutine[Any, Any, int]],
    loop: asyncio.AbstractEventLoop | None = None,
) -> int:
    """Run `main(stop)` on a fresh loop; `stop` gets a reason when SIGINT or SIGTERM arrives."""
    from fastdist.loop import new_event_loop

    loop = loop or new_event_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def on_signal(number: int) -> None:
        if not stop.done():
            logger.info("%s: closing", signal.Signals(number).name)
            stop.set_result(f"signal-{number}")

    undo = on_termination(on_signal, loop)
    try:
        return loop.run_until_complete(main(stop))
    finally:
        undo()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def until_stopped(stop: asyncio.Future[str], *finished: Coroutine[Any, Any, Any]) -> str | None:
    """Wait for the stop, or until all of `finished` are; returns the reason of the stop, if it was one."""
    tasks = [asyncio.ensure_future(each) for each in finished]
    ended: asyncio.Future[Any] = asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        for task in tasks:
            task.cancel()
        await ended
        return stop.result()
    for task in tasks:
        task.result()
    return None
