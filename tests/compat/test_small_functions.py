"""Functions about awaiting, files, texts and bytes that libraries import from dask.distributed's modules."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pickle
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from fastdist.compat import serialization, texts, utils, waiting
from fastdist.errors import SerializationError


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def value(x: Any) -> Any:
    await asyncio.sleep(0)
    return x


async def fail() -> Any:
    raise ValueError("no")


def test_all_gives_results_in_order_and_the_first_error() -> None:
    async def main() -> None:
        assert await waiting.All([value(i) for i in range(3)]) == [0, 1, 2]
        with pytest.raises(ValueError, match="no"):
            await waiting.All([value(1), fail()])
        with pytest.raises(NotImplementedError, match="quiet_exceptions"):
            await waiting.All([], quiet_exceptions=OSError)
        assert await waiting.NoOpAwaitable() is None

    run(main())


def test_any_does_not_wait_for_the_rest() -> None:
    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        assert await waiting.Any([never, value(5)]) == [5]
        assert await waiting.Any([]) == []
        with pytest.raises(ValueError, match="no"):
            await waiting.Any([never, fail()])
        with pytest.raises(TimeoutError):
            await waiting.wait_for(never, 0.01)
        assert await waiting.offload(divmod, 7, 2) == (3, 1)

    run(main())


def test_a_deadline_passes() -> None:
    never, past, later = waiting.Deadline(), waiting.Deadline.after(0), waiting.Deadline.after(60)
    assert (never.expires, never.remaining, never.expired) == (False, None, False)
    assert past.expired and past.remaining == 0
    assert later.expires and not later.expired and 0 < later.remaining <= 60 and later.elapsed >= 0


def test_what_fails_is_tried_again() -> None:
    calls = []

    async def fail_twice() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("network")
        return len(calls)

    assert run(waiting.retry(fail_twice, 5, 0, 0)) == 3
    calls.clear()
    with pytest.raises(OSError, match="network"):
        run(waiting.retry(fail_twice, 1, 0, 0))
    with pytest.raises(ValueError, match="no"):
        run(waiting.retry(fail, 5, 0, 0))


def test_signals_are_awaited() -> None:
    async def main() -> int:
        waiter = asyncio.ensure_future(waiting.wait_for_signals([signal.SIGUSR1]))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGUSR1)
        return await waiter

    before = signal.getsignal(signal.SIGUSR1)
    assert run(main()) == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_loop_of_a_factory_is_used_and_closed() -> None:
    loops = []

    def factory() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.new_event_loop())
        return loops[-1]

    async def main() -> bool:
        asyncio.get_running_loop().create_task(asyncio.sleep(60))
        return asyncio.get_running_loop() is loops[0]

    assert waiting.asyncio_run(main(), loop_factory=factory) and loops[0].is_closed()
    assert waiting.asyncio_run(value(1)) == 1


def test_parameters_are_looked_for() -> None:
    assert texts.has_arg(lambda x, *, y=1: x, "y") and not texts.has_arg(lambda x: x, "y")
    assert texts.has_keyword(json.dumps, "indent") and not texts.has_keyword(dict.fromkeys, "nothing")
    assert texts.key_split_group(("x-1", 2)) == "x-1"
    small, none, pair = (texts.TupleComparable(each) for each in (1, None, (1, 2)))
    assert none < small < pair and small == texts.TupleComparable((1,)) and len({small, none, pair}) == 3
    with pytest.raises(ValueError, match="a tuple, a number or None"):
        texts.TupleComparable("x")
    assert not texts.is_kernel()


def test_long_exceptions_are_cut() -> None:
    class Two(Exception):
        def __init__(self, a: str, b: str, c: int) -> None:
            super().__init__(a + b)

    short = ValueError("x")
    assert texts.truncate_exception(short) is short
    cut = texts.truncate_exception(ValueError("x" * 20_000), 100)
    assert type(cut) is ValueError and len(str(cut)) < 200
    assert type(texts.truncate_exception(Two("x" * 20_000, "", 1), 100)) is Exception
    assert texts.get_traceback() is None


def test_the_handlers_of_a_logger_are_silenced_for_a_block() -> None:
    stream = io.StringIO()
    logger, handler = logging.getLogger("fastdist.test_silence"), logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        with texts.silence_logging_cmgr("ERROR", root="distributed.test_silence"):
            logger.warning("quiet")
            logger.error("loud")
        logger.warning("again")
        with pytest.raises(ValueError, match="no level"), texts.silence_logging_cmgr("LOUD"):
            pass
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue() == "loud\nagain\n"


def test_blocks_of_a_file_end_at_delimiters(tmp_path: Path) -> None:
    content = b"one\ntwo\nthree\nfour\n"
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file:
        blocks = [texts.read_block(file, start, 5, b"\n") for start in range(0, len(content), 5)]
        assert b"".join(blocks) == content and blocks[0] == b"one\ntwo\n"
        assert texts.read_block(file, 4, 3) == b"two"
        file.seek(1)
        texts.seek_delimiter(file, b"ee\n", blocksize=2)
        assert file.read() == b"four\n"


def test_a_file_of_json_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(TimeoutError, match="could not load"):
        texts.json_load_robust(path, timeout=0.02)
    path.write_text('{"a": ')
    with pytest.raises(TimeoutError):
        texts.json_load_robust(str(path), timeout="20ms")
    path.write_text('{"a": 1}')
    assert texts.json_load_robust(path) == {"a": 1}


def test_a_file_of_code_is_imported_anew() -> None:
    for number in (1, 2):
        with texts.tmp_text("module_of_test.py", f"number = {number}") as path:
            (module,) = texts.import_file(path)
            assert module.number == number
    assert not os.path.exists(path)
    with pytest.raises(ValueError, match=r"no \.py"):
        texts.import_file("module.txt")


def test_buffers_become_flat_views() -> None:
    array = bytearray(b"abcd")
    view = texts.ensure_memoryview(memoryview(array).cast("H"))
    assert (view.format, view.nbytes, bytes(view)) == ("B", 4, b"abcd")
    view[0] = 65
    assert array == b"Abcd"
    assert bytes(texts.ensure_memoryview(memoryview(b"abcd")[::2])) == b"ac"
    assert texts.ensure_memoryview(b"").nbytes == 0


def test_hosts_and_ports() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", texts.open_port("127.0.0.1")))
    assert texts.get_ip_interface("lo") == "127.0.0.1"
    assert ":" in texts.get_ipv6()
    assert texts.ensure_concrete_host("1.2.3.4") == "1.2.3.4"
    assert texts.ensure_concrete_host("0.0.0.0", "5.6.7.8") == "5.6.7.8"
    assert texts.ensure_concrete_host("") not in ("", "0.0.0.0") and ":" in texts.ensure_concrete_host("::")
    assert texts.logging_names["INFO"] == 20 and texts.logging_names[20] == "INFO"


def test_limits_of_memory_are_what_the_machine_has_at_most(caplog: pytest.LogCaptureFixture) -> None:
    assert utils.parse_memory_limit("1 GiB", 1) == 2**30 and utils.parse_memory_limit(0, 1) is None
    assert utils.parse_memory_limit("auto", 1, 4) == utils.MEMORY_LIMIT // 4
    with caplog.at_level(logging.DEBUG):
        whole = utils.parse_memory_limit(utils.MEMORY_LIMIT * 2, 1, 4, logger=logging.getLogger("x"))
    assert whole == utils.MEMORY_LIMIT and str(whole) in caplog.text and caplog.records[0].name == "x"


def test_values_travel_as_bytes() -> None:
    big = bytearray(200_000)
    buffers: list[pickle.PickleBuffer] = []
    pickled = serialization.dumps({"f": lambda x: x + 1, "b": pickle.PickleBuffer(big)}, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(pickled) < 10_000
    loaded = serialization.loads(pickled, buffers=buffers)
    assert loaded["f"](1) == 2 and bytes(loaded["b"]) == big
    assert serialization.loads(serialization.dumps([1])) == [1]
    assert serialization.deserialize_bytes(b"".join(serialization.serialize_bytelist({"a": big}))) == {"a": big}
    assert serialization.deserialize_bytes(serialization.serialize_bytes("x")) == "x"
    with pytest.raises(SerializationError, match="lock"):
        serialization.dumps([threading.Lock()])
    for arguments in ({"compression": "lz4"}, {"serializers": ["dask"]}):
        with pytest.raises(NotImplementedError, match=next(iter(arguments))):
            serialization.serialize_bytelist(1, **arguments)
    with pytest.raises(NotImplementedError, match="protocol"):
        serialization.dumps(1, protocol=4)
