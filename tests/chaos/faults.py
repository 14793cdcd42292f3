"""The faults of the chaos matrix: each is injected into a site and healed again. May import: tests.chaos."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.chaos.site import N_WORKERS, Site

_CGROUP = Path("/sys/fs/cgroup/memory")


class Unavailable(Exception):
    """This machine does not permit the fault; the text says why."""


def needs_network(site: Site, what: str) -> None:
    """Raise Unavailable where cells have no namespaces of their own."""
    if site.hosts is None:
        raise Unavailable(f"{what} needs namespaces, which this machine does not permit")


def kill_worker(site: Site, generator: random.Random, scale: float) -> None:
    """F1."""
    site.kill(site.worker_pid(generator.choice(site.victims)))


def kill_nanny(site: Site, generator: random.Random, scale: float) -> None:
    """F2: whatever supervises daemons starts another."""
    index = generator.choice(site.victims)
    site.dead.add(site.worker_pid(index))
    site.kill(site.nanny_pid(index))
    site.replace_nanny(index)


def kill_scheduler(site: Site, generator: random.Random, scale: float) -> None:
    """F3."""
    site.kill(site.scheduler.pid)
    site.restart_scheduler()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, and SIGCONT afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stop_worker(site: Site, generator: random.Random, scale: float) -> None:
    """F5."""
    with stopped(site.worker_pid(generator.choice(site.victims))):
        time.sleep(20 * scale)


def stop_scheduler(site: Site, generator: random.Random, scale: float) -> None:
    """F6."""
    with stopped(site.scheduler.pid):
        time.sleep(20 * scale)


def partition(site: Site, generator: random.Random, scale: float) -> None:
    """F7: by nft where there are namespaces, else all workers lose the scheduler in the proxy."""
    index = generator.choice(site.victims)
    if site.hosts:
        site.hosts.drop(index, incoming="all", outgoing="all")
    else:
        site.proxy.weather.stalled_up = site.proxy.weather.stalled_down = site.proxy.weather.deaf = True
    time.sleep(30 * scale)
    if site.hosts:
        site.hosts.heal(index)
    site.proxy.weather.stalled_up = site.proxy.weather.stalled_down = site.proxy.weather.deaf = False


def one_way_partition(site: Site, generator: random.Random, scale: float) -> None:
    """F8."""
    index, incoming = generator.choice(site.victims), generator.random() < 0.5
    weather = site.proxy.weather
    if site.hosts:
        site.hosts.drop(index, incoming="all" if incoming else None, outgoing=None if incoming else "all")
    else:
        weather.stalled_up, weather.stalled_down = not incoming, incoming
    time.sleep(30 * scale)
    if site.hosts:
        site.hosts.heal(index)
    weather.stalled_up = weather.stalled_down = False


def bad_network(site: Site, generator: random.Random, scale: float) -> None:
    """F9: until the end of the workload; a round trip takes 50 ms longer, a tenth of what workers send is lost."""
    for proxy in (site.proxy, site.client_proxy):
        proxy.weather.delay, proxy.weather.jitter = 0.02, 0.01
    for index in range(N_WORKERS):
        if site.hosts:
            site.hosts.drop(index, outgoing="numgen random mod 10 0")


def full_disk(site: Site, generator: random.Random, scale: float) -> None:
    """F10."""
    needs_network(site, "a disk of its own")
    filler = site.disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    deadline = time.monotonic() + 8 * scale
    while time.monotonic() < deadline:
        # What is deleted meanwhile makes no room.
        with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        time.sleep(0.05)
    filler.unlink()


def socket_storm(site: Site, generator: random.Random, scale: float) -> None:
    """F11: no descriptors left in the scheduler, and connections killed, some in the middle of a message."""
    pid = site.scheduler.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), hard))
    try:
        time.sleep(2 * scale)
        for round_number in range(5):
            if round_number % 2:
                site.proxy.truncate(generator.randrange(1, 200))
                site.client_proxy.truncate(generator.randrange(1, 200))
            elif site.hosts:
                for index in site.victims:
                    site.hosts.kill_sockets(index)
            else:
                site.proxy.cut()
            time.sleep(generator.uniform(0.1, 0.6))
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def out_of_memory(site: Site, generator: random.Random, scale: float) -> None:
    """F12: the kernel kills a worker, by a cgroup whose limit is below what it uses."""
    if not os.access(_CGROUP, os.W_OK) or not (_CGROUP / "memory.limit_in_bytes").exists():
        raise Unavailable("there is no memory cgroup (v1) that may be changed here")
    group = _CGROUP / f"chaos-{site.mark}"
    group.mkdir()
    try:
        pid = site.worker_pid(generator.choice(site.victims))
        (group / "memory.limit_in_bytes").write_text(str(256 << 10))
        (group / "cgroup.procs").write_text(str(pid))
        site.dead.add(pid)
        deadline = time.monotonic() + 20
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise TimeoutError("the kernel did not kill the worker")
            time.sleep(0.02)
    finally:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


#: F4, the death of the client, is the controller's: it has the clients.
INJECT: dict[str, Callable[[Site, random.Random, float], None]] = {
    "F1": kill_worker,
    "F2": kill_nanny,
    "F3": kill_scheduler,
    "F5": stop_worker,
    "F6": stop_scheduler,
    "F7": partition,
    "F8": one_way_partition,
    "F9": bad_network,
    "F10": full_disk,
    "F11": socket_storm,
    "F12": out_of_memory,
}
