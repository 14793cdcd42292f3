"""`fastdist-worker`: run workers until they are told to end.

May import: every layer below `cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import Any

from fastdist import config
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
from fastdist.status import Status
from fastdist.system.processors import processor_count
from fastdist.worker.options import address_in_file
from fastdist.worker.process import serve_dask

logger = logging.getLogger("fastdist.worker")

SCHEDULER_ADDRESS_VARIABLE = config.SETTINGS["scheduler-address"].variable


def parser() -> argparse.ArgumentParser:
    """The command line of the worker."""
    options = make_parser("fastdist-worker", "Run fastdist workers.")
    add = options.add_argument
    add("scheduler", nargs="?", help="address of the scheduler, for example tcp://10.0.0.1:8786")
    add("--nthreads", type=int, default=0, help="threads of each worker; 0 shares the processors")
    add("--nworkers", help='number of workers, "auto", or a negative number -n: processors + 1 - n')
    add("--name", help="name of the worker; -0, -1, ... is appended if there are several")
    add("--memory-limit", default="auto", help='bytes, fraction, "5GB", "auto", or 0 for none')
    add("--nanny", action=Switch, default=True, help="run workers in processes that are restarted")
    add("--worker-port", help="port to serve data on, or a range first:last")
    add("--nanny-port", help="nannies take no connections: not built")
    add("--listen-address", help="address to bind to, for example tcp://0.0.0.0:9000")
    add("--contact-address", help="address to tell others, if it differs from --listen-address")
    add("--local-directory", help="folder for temporary files")
    add("--resources", default="", help='for example "GPU=2 MEM=10e9"')
    add("--death-timeout", type=seconds, help="give up connecting after so long")
    add("--lifetime", type=seconds, help="retire after so long: others get the data, then it closes")
    add("--lifetime-stagger", type=seconds, help="up to so much earlier or later, at random")
    add("--lifetime-restart", action=Switch, help="whether the nanny starts another worker then")
    add("--worker-class", help="class of the workers, as module:name")
    add("--preload-nanny", action="append", help="the same for the nannies")
    add("--scheduler-sni", help="not built yet")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; returns its exit code."""
    command_line = parser()
    options = parse_arguments(command_line, arguments)
    unbuilt = ["nanny_port", "scheduler_sni"]
    refuse_unbuilt(command_line, options, *unbuilt)
    start_logging()
    try:
        workers = worker_options(options)
        address = find_scheduler(options)
    except ValueError as error:
        command_line.error(str(error))
    except OSError as error:
        logger.error("%s", error)
        return 1
    token = choose_token(command_line, options)

    async def serve(stop: asyncio.Future[str]) -> int:
        return await _serve(address, workers, options, token, stop)

    serve_dask()
    try:
        with pid_file(options.pid_file):
            return run_daemon(serve)
    except OSError as error:
        logger.error("%s", error)
        return 1


def find_scheduler(options: argparse.Namespace) -> str:
    """The scheduler's address: the argument, the scheduler file, or the environment.

    Raises
    ------
    ValueError
        None of them is given.
    """
    if options.scheduler and options.scheduler_file:
        raise ValueError("give the address of the scheduler or --scheduler-file, not both")
    if options.scheduler:
        return str(options.scheduler)
    if options.scheduler_file:
        return address_in_file(options.scheduler_file, options.death_timeout or 30.0)
    address = config.get("scheduler-address")
    if not address:
        raise ValueError(f"give the scheduler's address, --scheduler-file, or {SCHEDULER_ADDRESS_VARIABLE}")
    return str(address)


def worker_options(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The arguments of each worker that the command line asks for.

    Raises
    ------
    ValueError
        Options contradict each other or cannot be read.
    """
    count, threads = _counts(options.nworkers, options.nthreads)
    if count > 1 and not options.nanny:
        raise ValueError("--no-nanny runs one worker in this process: it needs --nworkers 1")
    if options.contact_address and not options.listen_address:
        raise ValueError("--contact-address needs --listen-address")
    if options.listen_address and (count > 1 or options.worker_port or options.host):
        raise ValueError("--listen-address excludes --nworkers above 1, --worker-port and --host")
    host, ports = options.host or None, _ports(options.worker_port, count)
    if options.listen_address:
        from fastdist.comm.addresses import parse_address

        parsed = parse_address(options.listen_address, default_port=0)
        host, ports = parsed.host, [parsed.port]
    if options.interface and host is None:
        from fastdist.comm.addresses import resolve_listen_host

        host = resolve_listen_host(None, options.interface)
    shared = {
        "nthreads": threads,
        "memory_limit": options.memory_limit,
        "resources": parse_resources(options.resources) if options.resources else None,
        "local_directory": options.local_directory,
        "host": host,
        "contact_address": options.contact_address,
        "death_timeout": options.death_timeout,
        "lifetime": options.lifetime,
        "lifetime_stagger": options.lifetime_stagger,
        "lifetime_restart": options.lifetime_restart,
        "preload": options.preload,
        "preload_argv": options.preload_argv if options.preload else None,
    }
    if options.nanny:
        shared["preload_nanny"] = options.preload_nanny
    elif options.preload_nanny:
        raise ValueError("--preload-nanny needs nannies: leave --no-nanny out")
    names = [_name(options.name, index, count) for index in range(count)]
    return [{**shared, "name": name, "port": port} for name, port in zip(names, ports, strict=True)]


def parse_resources(text: str) -> dict[str, float]:
    """Resources of a text such as `"GPU=2 MEM=10e9"`.

    Raises
    ------
    ValueError
        A part is not `NAME=NUMBER`.

    Example
    -------
    >>> parse_resources("GPU=2,MEM=10e9")
    {'GPU': 2.0, 'MEM': 10000000000.0}
    """
    resources = {}
    for part in text.replace(",", " ").split():
        name, separator, amount = part.partition("=")
        try:
            if not separator or not name:
                raise ValueError
            resources[name] = float(amount)
        except ValueError:
            raise ValueError(f"--resources {part!r} is not NAME=NUMBER") from None
    return resources


def _counts(nworkers: str | None, nthreads: int) -> tuple[int, int]:
    from fastdist.deploy.local import nprocesses_nthreads

    cores = processor_count()
    if nworkers == "auto":
        if nthreads:
            raise ValueError("--nworkers auto chooses the threads too: it excludes --nthreads")
        return nprocesses_nthreads(cores)
    try:
        count = 1 if nworkers is None else int(nworkers)
    except ValueError:
        raise ValueError(f'--nworkers {nworkers!r} is neither a number nor "auto"') from None
    if count < 0:
        count = cores + 1 + count
    if count <= 0:
        raise ValueError(f"--nworkers {nworkers} leaves no worker")
    return count, nthreads or max(1, cores // count)


def _ports(text: str | None, count: int) -> list[int | str | None]:
    """A port, or a part of the range, for each worker."""
    if text is None or text == "0":
        return [None] * count
    from fastdist.comm.addresses import parse_ports

    ports = parse_ports(text)
    if len(ports) < count:
        raise ValueError(f"--worker-port {text} has {len(ports)} ports for {count} workers")
    shares = [ports[index::count] for index in range(count)]
    # A share of a range is again a range only for one worker; each of several gets its first port.
    return [text] if count == 1 else [share[0] for share in shares]


def _name(name: str | None, index: int, count: int) -> object:
    if name is None:
        return None
    if count > 1:
        return f"{name}-{index}"
    return int(name) if name.isdecimal() else name


async def _serve(
    address: str,
    workers: list[dict[str, Any]],
    options: argparse.Namespace,
    token: Token | None,
    stop: asyncio.Future[str],
) -> int:
    servers = [_make_server(address, one, options, token) for one in workers]
    starting = asyncio.ensure_future(asyncio.gather(*(server.start() for server in servers)))
    await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
    elif starting.exception() is not None:
        logger.error("%s", starting.exception())
        await _close_all(servers, "a worker could not start")
        return 1
    else:
        for server in servers:
            _log_start(server, address)
    reason = await until_stopped(stop, *(server.finished() for server in servers))
    await _close_all(servers, reason or "all workers closed")
    return 1 if any(server.status is Status.failed for server in servers) else 0


async def _close_all(servers: list[Any], reason: str) -> None:
    await asyncio.gather(*(server.close(reason=reason) for server in servers))


def _make_server(
    address: str, worker: dict[str, Any], options: argparse.Namespace, token: Token | None
) -> Any:
    if options.nanny:
        from fastdist.nanny import Nanny

        return Nanny(
            address, token=token, insecure=options.insecure, worker_class=options.worker_class, **worker
        )
    from fastdist.worker.output import capture_output
    from fastdist.worker.process import load_class

    capture_output()
    return load_class(options.worker_class)(address, token=token, insecure=options.insecure, **worker)


def _log_start(server: Any, scheduler_address: str) -> None:
    logger.info("Start worker at: %s", getattr(server, "worker_address", None) or server.address)
    logger.info("Registered to:   %s", scheduler_address)


if __name__ == "__main__":
    sys.exit(main())
