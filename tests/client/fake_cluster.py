"""A cluster of one listener that is scheduler and worker in one, and computes every task when it hears of it.

It speaks docs/wire.md over an inproc connection, on the shared loop thread. May import: fastdist, tests.
"""

from __future__ import annotations

import pickle
from typing import Any

from fastdist._core.codec.frames import FrameKind
from fastdist._core.codec.values import encode_value
from fastdist._core.keys.canonical import decode_key
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.comm.core import Comm, listen
from fastdist.errors import SerializationError
from fastdist.loop import LoopThread
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.functions import load_function
from fastdist.rpc.peer import Peer
from tests.core.client.frames import CANCELLED, ERRED, FINISHED, Row, read_release, read_tasks, state_frame

Answer = tuple[dict[str, Any], list[Any]]


class FakeCluster:
    """Scheduler and worker of the tests.

    Attributes
    ----------
    inline : bool
        Whether results travel with the state.
    by_reference : bool
        Whether fetched results are the objects themselves.
    held : bool
        Whether tasks wait for `let_go` instead of being computed at once.
    unreachable : bool
        Whether the worker's address leads nowhere.
    """

    status = "running"
    token = None

    def __init__(self) -> None:
        self.inline = True
        self.by_reference = True
        self.held = False
        self.unreachable = False
        self.frames: list[Any] = []
        self.released: list[int] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.values: dict[bytes, Any] = {}
        self.errors: dict[bytes, bytes] = {}
        self.ids: dict[int, bytes] = {}
        self.functions: dict[bytes, Any] = {}
        self.runs: list[bytes] = []
        self.waiting: list[tuple[Peer, Row]] = []
        self.goodbyes = 0
        self.peers: list[Peer] = []
        self.loop_thread = LoopThread.acquire()
        self.listener = self.loop_thread.run(self._listen())

    @property
    def scheduler_address(self) -> str:
        return self.listener.address

    async def _listen(self) -> Any:
        return await listen("inproc://", token=None, on_comm=self._on_comm)

    def close(self) -> None:
        self.loop_thread.run(self._close())
        self.loop_thread.release()

    async def _close(self) -> None:
        for peer in self.peers:
            await peer.close()
        await self.listener.close()

    def break_connections(self) -> None:
        """Cut all connections without a goodbye."""
        for peer in self.peers:
            peer.abort(ConnectionResetError("cut by the test"))

    def _on_comm(self, comm: Comm) -> None:
        handlers = {
            name.removeprefix("on_").replace("_", "-"): getattr(self, name)
            for name in dir(self)
            if name.startswith("on_")
        }
        peer = Peer(comm, {name: self._recorded(name, handler) for name, handler in handlers.items()})
        peer.on_frame[FrameKind.TASKS] = self._take_tasks
        peer.on_frame[FrameKind.RELEASE] = self._take_release
        self.peers.append(peer)

    def _recorded(self, name: str, handler: Any) -> Any:
        def record(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
            self.calls.append((name, fields))
            return handler(peer, fields, buffers)

        return record

    # Tasks

    def _take_tasks(self, peer: Peer, body: memoryview) -> None:
        tasks = read_tasks(bytes(body))
        self.frames.append(tasks)
        self.functions.update({digest: payload for digest, payload in tasks.functions.items() if payload})
        for row in tasks.rows:
            self.ids[row.id] = row.key
        if self.held:
            self.waiting += [(peer, row) for row in tasks.rows]
        else:
            self._compute(peer, tasks.rows)

    def let_go(self, count: int | None = None) -> None:
        """Compute the tasks (so many of them) that were held."""
        self.loop_thread.run(self._let_go(count))

    async def _let_go(self, count: int | None) -> None:
        going, self.waiting = self.waiting[:count], self.waiting[len(self.waiting[:count]) :]
        for peer, row in going:
            self._compute(peer, [row])

    def _compute(self, peer: Peer, rows: list[Row]) -> None:
        states = []
        for row in rows:
            if row.key not in self.values and row.key not in self.errors:
                self._run(row)
            if row.flags:
                states.append(self._state(row.id, row.key))
        if states:
            peer.send_frame(FrameKind.STATE, state_frame(*states))

    def _run(self, row: Row) -> None:
        failed = [self.ids[each] for each in row.inputs if self.ids[each] in self.errors]
        if failed:
            self.errors[row.key] = self.errors[failed[0]]
            return
        if row.function is None:
            self.errors[row.key] = reason_payload(
                Reason.UNKNOWN_KEY, f"there is no task {decode_key(row.key)!r}"
            )
            return
        self.runs.append(row.key)
        try:
            args, kwargs = row.call([self.values[self.ids[each]] for each in row.inputs])
            self.values[row.key] = load_function(self.functions[row.function])(*args, **kwargs)
        except Exception as error:
            self.errors[row.key] = dump_failure(error)

    def _state(self, id: int, key: bytes) -> tuple[int, int, bytes]:
        if key in self.errors:
            return id, ERRED, self.errors[key]
        payload = encode_value(self.values[key]) if self.inline else None
        return id, FINISHED, payload or b""

    def _take_release(self, peer: Peer, body: memoryview) -> None:
        self.released += read_release(bytes(body))[0]

    # Requests

    def on_register_client(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"epoch": 1, "info": {}}

    def on_heartbeat(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        pass

    def on_close_client(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        self.goodbyes += 1

    def on_who_has(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        address = "inproc://nowhere" if self.unreachable else self.scheduler_address
        if "ids" in fields:
            known = [self.ids.get(id) for id in fields["ids"]]
            return {
                "tasks": [
                    (id, 10, [address]) if key in self.values else None
                    for id, key in zip(fields["ids"], known, strict=True)
                ]
            }
        keys = self.values if fields["keys"] is None else fields["keys"]
        return {"who_has": [[key, [address]] for key in keys]}

    def on_has_what(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"has_what": {self.scheduler_address: list(self.values)}}

    def on_ncores(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"ncores": {self.scheduler_address: 3}}

    def on_identity(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"identity": {"type": "Fake", "workers": {self.scheduler_address: {"status": "running"}}}}

    def on_wait_for_workers(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"running": 1}

    def on_get_data(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        return self._data(fields["task_ids"])

    def on_gather(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        return self._data(fields["ids"])

    def _data(self, ids: list[int]) -> Answer:
        flags, payloads = [], []
        for id in ids:
            value = self.values[self.ids[id]]
            try:
                pickle.dumps(value)
                flags.append(1)
                payloads.append(value)
            except Exception as error:
                flags.append(2)
                payloads.append(dump_failure(SerializationError(str(error))))
        return {"found": flags}, payloads

    def on_cancel(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        payload = reason_payload(Reason.CANCELLED, "", cause=fields["reason"])
        ids = [id for id, key in self.ids.items() if key in fields["keys"]]
        peer.send_frame(FrameKind.STATE, state_frame(*((id, CANCELLED, payload) for id in ids)))
        return {"count": len(ids)}

    def on_retry(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        for key in fields["keys"]:
            del self.errors[key]
        rows = [row for frame in self.frames for row in frame.rows if row.key in fields["keys"]]
        self._compute(peer, rows)
        return {}

    def on_scatter(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        first = fields["first_client_id"]
        self.ids.update({first + i: key for i, key in enumerate(fields["keys"])})
        return {"tasks": [(first + i, [self.scheduler_address]) for i in range(len(fields["keys"]))]}

    def on_put_data(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        self.values.update(zip(fields["keys"], buffers, strict=True))
        states = [(id, FINISHED, b"") for id in fields["task_ids"]]
        self.peers[0].send_frame(FrameKind.STATE, state_frame(*states))
        return {"sizes": [1] * len(buffers)}

    def on_run(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        from fastdist._core.codec.values import decode_call

        args, kwargs = decode_call(buffers[1], [])
        try:
            status, payload = (
                "OK",
                b"".join(results.dumps(load_function(buffers[0])(*args, **(kwargs or {})))),
            )
        except Exception as error:
            status, payload = "error", dump_failure(error)
        return {"results": [[self.scheduler_address, status, 0]]}, [payload]
