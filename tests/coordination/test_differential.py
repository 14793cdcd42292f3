"""The same script on dask.distributed and on fastdist: what users see of locks, queues and the like is the same."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

PATIENCE = 60

SCRIPT = '''
import json, pickle, sys
from {library} import Client, Event, Lock, MultiLock, Queue, Semaphore, Variable, get_client

def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__

def in_task(queue, lock, event):
    with lock:
        queue.put([lock.locked(), event.is_set()])
    event.set()
    return type(get_client()).__name__

def main():
    seen = {{}}
    with Client({arguments}) as client:
        lock = Lock("l")
        seen["lock"] = [
            lock.acquire(), lock.acquire(timeout="20 ms"), lock.acquire(blocking=False), lock.locked(),
            outcome(lock.acquire, blocking=False, timeout=1), lock.release(), outcome(lock.release), lock.locked(),
            pickle.loads(pickle.dumps(lock)).name,
        ]
        semaphore = Semaphore(2, "s")
        seen["semaphore"] = [
            semaphore.acquire(), semaphore.acquire(), semaphore.acquire(timeout=0.02), semaphore.get_value(),
            semaphore.release(), semaphore.get_value(), outcome(Semaphore(3, "s").register), semaphore.release(),
            semaphore.close(), outcome(semaphore.acquire), pickle.loads(pickle.dumps(semaphore)).max_leases,
        ]
        one, two = MultiLock(["a", "b"]), MultiLock(["b", "c"])
        seen["multi"] = [
            one.acquire(), one.locked(), outcome(two.release), MultiLock(["c"]).acquire(timeout=0.02),
            one.release(), one.locked(), two.acquire(num_locks=1), two.release(),
        ]
        event = Event("e")
        seen["event"] = [event.is_set(), event.wait(timeout=0.02), event.set(), event.is_set(), event.wait(),
                         event.clear(), event.is_set()]
        queue = Queue("q", maxsize=3)
        seen["queue"] = [
            queue.qsize(), outcome(queue.get, timeout=0.02), queue.put(1), queue.put([2, "x"]), queue.put(None),
            outcome(queue.put, 4, timeout=0.02), queue.qsize(), queue.get(), queue.get(batch=True),
            queue.get(batch=True), outcome(queue.get, batch=2, timeout=1), queue.maxsize, queue.close(),
        ]
        futures = Queue("f")
        futures.put(client.submit(pow, 2, 5))
        futures.put(client.submit(divmod, 1, 0))
        seen["futures"] = [futures.get().result(), outcome(futures.get().result)]
        variable = Variable("v")
        seen["variable"] = [
            outcome(variable.get, timeout=0.02), variable.set({{"a": [1]}}), variable.get(), variable.get(),
            variable.set(client.submit(pow, 3, 3)), variable.get().result(), variable.delete(),
        ]
        queue = Queue("t")
        seen["task"] = [client.submit(in_task, queue, lock, event).result(), queue.get(timeout=10), event.wait(10)]
    print(json.dumps(seen))

if __name__ == "__main__":
    main()
'''


def run(library: str, arguments: str) -> dict[str, object]:
    """What the script sees, in a process of its own."""
    script = SCRIPT.format(library=library, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed")
def test_the_same_is_seen() -> None:
    settings = "processes=False, n_workers=1, threads_per_worker=2"
    theirs = run("distributed", settings + ", dashboard_address=None")
    ours = run("fastdist", settings)
    assert ours == theirs
