"""What a simulated client scatters: announced to the scheduler, put on workers, and given up where no worker took it.

It does what the shell of a client does in `fastdist.client.scattering`, on virtual connections. May import: its
siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdist.testing.simulation.network import Connection

if TYPE_CHECKING:
    from fastdist.testing.simulation.client import SimulatedClient

#: A piece of data on its way: its task id and its key.
Piece = tuple[int, str]


@dataclass
class Delivery:
    """What one call brings to workers."""

    waiting: int
    there: set[int]
    pieces: list[Piece]
    then: Callable[[], object]


class Scatterer:
    """Puts the data of one client on workers.

    Parameters
    ----------
    client : SimulatedClient
    """

    def __init__(self, client: SimulatedClient) -> None:
        self.client = client
        #: By connection: what was put there, and for which call.
        self._puts: dict[Connection, tuple[Delivery, list[Piece]]] = {}
        #: Keys that were announced over the connection to the scheduler, which has not answered.
        self._announced: dict[int, list[str]] = {}
        self._calls = 0

    def scatter(self, keys: Sequence[str], then: Callable[[], object]) -> None:
        """Scatter what the client has no future of; `then` is called when all of it is somewhere, or lost."""
        client = self.client
        new = [key for key in keys if key not in client.futures and not client.table.find_key(self._canonical(key))]
        if not new or not client.is_connected:
            client.process.after(0.0, then)
            return
        first_id, futures = client.table.add_keys([self._canonical(key) for key in new])
        for key, future in zip(new, futures, strict=True):
            client.keep(key, future)
        self._calls += 1
        call = self._calls
        self._announced[call] = new
        fields = {"first_id": first_id, "keys": [self._canonical(key) for key in new]}
        client.call("scatter", fields, lambda answer: self._answered(call, answer, then), again=False)

    def _canonical(self, key: str) -> bytes:
        return self.client.program.specs[key].canonical

    def _answered(self, call: int, answer: dict[str, Any], then: Callable[[], object]) -> None:
        keys = self._announced.pop(call)
        if answer["rows"] is None:
            # There is no worker: the user gets an error and no futures.
            self._forget(keys)
            then()
            return
        delivery = Delivery(0, set(), [], then)
        by_worker: dict[str, list[Piece]] = {}
        for (task_id, addresses), key in zip(answer["rows"], keys, strict=True):
            for address in addresses:
                by_worker.setdefault(address, []).append((task_id, key))
            delivery.pieces.append((task_id, key))
            if not addresses:
                delivery.there.add(task_id)
        for address, group in by_worker.items():
            self._put(address, group, delivery)
        if not delivery.waiting:
            self._finish(delivery)

    def _put(self, address: str, pieces: list[Piece], delivery: Delivery) -> None:
        client = self.client
        connection = client.network.connect(client, address)
        if connection is None:
            return
        delivery.waiting += 1
        self._puts[connection] = (delivery, pieces)
        rows = []
        for task_id, key in pieces:
            spec = client.program.specs[key]
            rows.append((task_id, spec.canonical, client.program.expected(key), spec.nbytes))
        connection.send(client, "put-data", {"id": 0, "rows": rows})

    def on_reply(self, connection: Connection, fields: dict[str, Any]) -> None:
        """A worker answered."""
        if connection in self._puts:
            delivery, pieces = self._puts.pop(connection)
            if fields["taken"]:
                delivery.there.update(task_id for task_id, _ in pieces)
            connection.close(self.client)
            self._one_less(delivery)

    def on_closed(self, connection: Connection) -> None:
        """A worker is gone."""
        if connection in self._puts:
            self._one_less(self._puts.pop(connection)[0])

    def _one_less(self, delivery: Delivery) -> None:
        delivery.waiting -= 1
        if not delivery.waiting:
            self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        lost = [task_id for task_id, _ in delivery.pieces if task_id not in delivery.there]
        if lost:
            self.client.call("scatter-failed", {"ids": lost, "client_ids": []})
        delivery.then()

    def lose_scheduler(self) -> None:
        """The scheduler did not answer before the connection broke: the user gets an error and no futures."""
        announced, self._announced = self._announced, {}
        for keys in announced.values():
            ids = [self.client.futures[key].id for key in keys if key in self.client.futures]
            self.client.call("scatter-failed", {"ids": [], "client_ids": ids})
            self._forget(keys)

    def _forget(self, keys: list[str]) -> None:
        self.client.release([key for key in keys if key in self.client.futures])
