"""Future: the handle of one task's result.

Compiled for one reason: a class made by Python is always tracked by the garbage collector, and a million tracked
futures make every collection slow. All that it does is ask its client. May import: `_core`, `errors`, `context`.
"""

cimport cython

from fastdist._core.client.futures cimport FutureSlot, FutureTable

import sys

from fastdist._core.keys.canonical import decode_key, encode_key

STATUS_NAMES = ("pending", "finished", "error", "cancelled", "lost")


@cython.no_gc
@cython.final
cdef class Future(FutureSlot):
    """The result of a task that runs, or ran, somewhere in the cluster.

    Futures come from `Client.submit`, `map`, `scatter` and `get`. `Future(key)` makes one for a task that exists
    already. When the last Future of a task goes, the cluster may forget its result.

    Parameters
    ----------
    key : str, bytes, int, float or tuple
        The key of the task.
    client : Client, optional
        The client to ask; by default the current one, if there is one.
    state, _id
        For programs that call dask's constructor: the state comes from the client, and any identity is taken.

    Examples
    --------
    >>> future = client.submit(sum, [1, 2, 3])
    >>> future.result()
    6
    """

    # How graphs and keys recognise a future of any library.
    __dask_future__ = True

    @property
    def __class__(self):
        """For `isinstance`: once dask has been imported, a Future is also one of its references to tasks."""
        return task_reference_type() or Future

    def __init__(self, key, client=None, state=None, _id=None):
        if state is not None:
            raise TypeError("Future(state=) takes None: a future asks its client for its state")
        if client is None:
            client = find_current_client()
        if client is None:
            self.kept_key = encode_key(key)
        else:
            self._bind(client, encode_key(key))

    cdef object _bind(self, object client, bytes key):
        cdef FutureSlot bound = client._reference(key)
        cdef FutureTable table = bound.table
        self.kept_key = None
        self.table = table
        self.id = bound.id
        table.hold(self.id)

    def bind_client(self, client) -> None:
        """Attach a Future that was made without a client to one. Does nothing if it is attached already."""
        if self.table is None:
            self._bind(client, self.kept_key)

    @property
    def key(self):
        """The key of the task."""
        return decode_key(self.key_bytes)

    @property
    def client(self):
        """The client that this future belongs to, or None."""
        return None if self.table is None else self.table.client

    @property
    def executor(self):
        """The same as `client`."""
        return self.client

    @property
    def status(self) -> str | None:
        """`pending`, `finished`, `error`, `cancelled` or `lost` (data that is gone for good); None without client."""
        return None if self.table is None else STATUS_NAMES[self.state]

    @property
    def type(self):
        """The type of the result: the class if this process has it loaded, else its name; None if not known."""
        return self._client()._type_of(self.type_name)

    @property
    def attempts(self):
        """How often the task was tried so far, asked of the scheduler; awaited where the calls of the client are.

        It counts failures, workers that died meanwhile, and the attempt that runs or ended the task.
        """
        return self._client()._attempts_of(self)

    def done(self) -> bool:
        """Whether the task ended, well or not."""
        return self.status not in ("pending", None)

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.status == "cancelled"

    def result(self, timeout=None):
        """Wait for the task and return its result.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "500 ms"; without it there is no limit.

        Raises
        ------
        TimeoutError
            If it does not end in time; the task goes on.
        FutureCancelledError
            If the task was cancelled.
        Exception
            Whatever the task raised, with the traceback of the worker.
        """
        return self._client()._result_of(self, timeout)

    def exception(self, timeout=None):
        """Wait for the task and return the exception that it raised, or None. Parameters and errors as of `result`."""
        return self._client()._exception_of(self, timeout)

    def traceback(self, timeout=None):
        """Wait for the task and return the traceback of its error, or None. Parameters and errors as of `result`."""
        return self._client()._traceback_of(self, timeout)

    def logs(self):
        """What the task printed and logged in a worker process so far, oldest first; also if the worker has died.

        Returns
        -------
        list of OutputLine
            With `time`, `worker`, `stream` and `text`; the text of one is its line. Awaited where the calls of the
            client are.
        """
        return self._client()._logs_of(self)

    def add_done_callback(self, fn) -> None:
        """Have `fn(future)` called when the task is done, on a thread for such callbacks."""
        self._client()._add_done_callback(self, fn)

    def why(self):
        """Why the task is not finished, in one sentence; see `Client.why`."""
        return self._client()._why_of(self)

    def cancel(self, reason=None, msg=None, **kwargs):
        """Cancel the task; see `Client.cancel`."""
        return self._client().cancel([self], reason=reason, msg=msg, **kwargs)

    def retry(self, **kwargs):
        """Run the task again if it failed; see `Client.retry`."""
        return self._client().retry([self], **kwargs)

    def release(self) -> None:
        """Give up this reference now instead of when the object goes."""
        self.give_up()

    def _client(self):
        if self.table is None:
            raise RuntimeError(
                f"{self!r} has no client: make one in this process first, or give it one with bind_client"
            )
        return self.table.client

    def __await__(self):
        return self._client()._result_async(self).__await__()

    def __reduce__(self):
        return Future, (self.key,)

    @property
    def __fastdist_key__(self):
        return self.key

    def substitute(self, subs, key=None):
        """What dask puts in place of this future when it renames or fuses tasks: see its `TaskRef`."""
        from dask._task_spec import TaskRef

        new = TaskRef(self.key).substitute(subs, key)
        return self if type(new) is TaskRef and new.key == self.key else new

    def __dask_tokenize__(self):
        return ("fastdist.Future", self.key)

    @classmethod
    def __class_getitem__(cls, item):
        from types import GenericAlias

        return GenericAlias(cls, item)

    def __repr__(self) -> str:
        if not self.key_bytes:
            return "<Future: unbound>"
        details = f"type: {self.type_name}, " if self.type_name else ""
        return f"<Future: {self.status}, {details}key: {self.key}>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = [("Future", str(self.key)), ("status", str(self.status))]
        if self.type_name:
            rows.append(("type", self.type_name))
        if self.status == "finished":
            rows.append(("size", f"{self.size} bytes"))
        cells = "".join(
            f"<tr><th style='text-align: left'>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows
        )
        return f"<table>{cells}</table>"


cdef object reference_type = None


cdef object task_reference_type():
    # A class that has both as bases in name only: the layout of a compiled class allows no other base. None: no dask.
    global reference_type
    if reference_type is None:
        module = sys.modules.get("dask._task_spec")
        base = getattr(module, "TaskRef", None)
        if base is None:
            return None
        reference_type = type("Future", (base,), {"__slots__": (), "__module__": "fastdist.client.future"})
    return reference_type


def find_current_client():
    """The client that a Future made here and now belongs to, or None."""
    from fastdist.client.current import find_client

    return find_client()
