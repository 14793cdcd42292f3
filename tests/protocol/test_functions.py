"""Functions: their bytes, their hashes, and what is remembered of them."""

from __future__ import annotations

import functools
import gc
import operator
import pickle
import subprocess
import sys
import textwrap
import threading
import types

import cloudpickle
import numpy
import pytest

from fastdist.errors import SerializationError
from fastdist.protocol.functions import FunctionCache, load_function

SCALE = 3


def double(x: int) -> int:
    return 2 * x


class Model:
    def predict(self, x: int) -> int:
        return x + 1

    @staticmethod
    def fixed() -> int:
        return 4


@pytest.fixture
def cache() -> FunctionCache:
    return FunctionCache()


@pytest.mark.parametrize(
    "function", [double, len, operator.add, Model, Model.fixed, int, functools.partial, Model.predict]
)
def test_importable_functions_are_sent_by_name_and_remembered(cache, function):
    serialized = cache.serialize_function(function)
    assert not serialized.by_value
    assert len(serialized.hash) == 16
    assert len(serialized.payload) < 150
    assert load_function(serialized.payload) is function
    assert cache.serialize_function(function) is serialized
    assert len(cache) == 1


@pytest.mark.parametrize(
    "function, result",
    [
        (lambda x: x + 1, 6),
        (functools.partial(operator.add, 2), 7),
        (Model().predict, 6),
        ([5].count, 1),
        (numpy.negative, -5),
    ],
)
def test_other_callables_come_back(cache, function, result):
    serialized = cache.serialize_function(function)
    assert load_function(serialized.payload)(5) == result


def test_an_unchanged_function_keeps_its_hash(cache):
    function = lambda x: x + SCALE  # noqa: E731
    first = cache.serialize_function(function)
    assert first.by_value
    assert cache.serialize_function(function).hash == first.hash
    assert FunctionCache().serialize_function(function).hash == first.hash
    assert len(cache) == 0


def test_lambdas_made_anew_in_a_loop_share_a_hash(cache):
    assert len({cache.serialize_function(lambda x: x + 1).hash for _ in range(5)}) == 1


def test_a_changed_closure_changes_the_hash(cache):
    factor = 2

    def scale(x: int) -> int:
        return x * factor

    before = cache.serialize_function(scale)
    factor = 3
    after = cache.serialize_function(scale)
    assert before.hash != after.hash
    assert load_function(before.payload)(10) == 20
    assert load_function(after.payload)(10) == 30


def test_a_changed_global_changes_the_hash(cache):
    namespace = {"__name__": "__main__", "factor": 2}
    exec("def scale(x):\n    return x * factor", namespace)
    before = cache.serialize_function(namespace["scale"])
    namespace["factor"] = 3
    after = cache.serialize_function(namespace["scale"])
    assert before.hash != after.hash
    assert load_function(after.payload)(10) == 30


def test_a_function_defined_twice_alike_has_one_hash(cache):
    source = "def scale(x):\n    label = 'some text' + 'more'\n    return [label, x, ('a', 'b')]"
    hashes = set()
    for _ in range(2):
        namespace = {"__name__": "__main__"}
        exec(source, namespace)
        hashes.add(cache.serialize_function(namespace["scale"]).hash)
    assert len(hashes) == 1


def test_what_main_defines_is_sent_by_value():
    program = textwrap.dedent("""
        import sys
        from fastdist.protocol.functions import FunctionCache
        def inc(x):
            return x + 1
        serialized = FunctionCache().serialize_function(inc)
        assert serialized.by_value
        sys.stdout.buffer.write(serialized.payload)
    """)
    payload = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout
    assert load_function(payload)(1) == 2


def test_a_function_that_was_replaced_in_its_module_is_sent_by_value(cache, monkeypatch):
    module = types.ModuleType("replaceable")
    exec("def f():\n    return 'old'", module.__dict__)
    monkeypatch.setitem(sys.modules, "replaceable", module)
    old = module.f
    assert not cache.serialize_function(old).by_value
    module.f = lambda: "new"
    serialized = cache.serialize_function(old)
    assert serialized.by_value
    assert load_function(serialized.payload)() == "old"


def test_modules_registered_with_cloudpickle_are_sent_by_value(cache):
    assert not cache.serialize_function(double).by_value
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        assert cache.serialize_function(double).by_value
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert not cache.serialize_function(double).by_value


def test_the_cache_is_bounded_and_forgets_the_oldest():
    cache = FunctionCache(size=2)
    first = cache.serialize_function(len)
    for function in (operator.add, operator.mul):
        cache.serialize_function(function)
    assert len(cache) == 2
    again = cache.serialize_function(len)
    assert again is not first
    assert again == first
    with pytest.raises(ValueError, match="at least one"):
        FunctionCache(size=0)


def test_a_function_in_use_is_not_forgotten():
    cache = FunctionCache(size=2)
    used = cache.serialize_function(len)
    cache.serialize_function(operator.add)
    assert cache.serialize_function(len) is used
    cache.serialize_function(operator.mul)
    assert cache.serialize_function(len) is used


def test_the_cache_does_not_keep_functions_alive(cache, monkeypatch):
    module = types.ModuleType("passing")
    exec("def f():\n    return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "passing", module)
    cache.serialize_function(module.f)
    held = len(gc.get_referrers(module.f))
    del module.f
    gc.collect()
    assert held == 1
    assert all(entry[0]() is None for entry in cache._entries.values())


def test_what_cannot_be_called_is_refused(cache):
    with pytest.raises(TypeError, match="not a int"):
        cache.serialize_function(5)
    with pytest.raises(TypeError, match="cannot be called"):
        load_function(pickle.dumps(5))


def test_an_unpicklable_function_is_refused_with_the_path(cache):
    client = {"lock": threading.Lock()}
    with pytest.raises(
        SerializationError, match=r"function closure client\['lock'\] \(a _thread.lock\)"
    ) as caught:
        cache.serialize_function(lambda: client)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(SerializationError, match=r"function\.keywords\['lock'\]"):
        cache.serialize_function(functools.partial(double, lock=threading.Lock()))
    with pytest.raises(SerializationError, match=r"function\.__self__"):
        cache.serialize_function(threading.Lock().acquire)


def test_a_recursive_function_is_sent(cache):
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert load_function(cache.serialize_function(factorial).payload)(5) == 120


def test_many_threads_may_share_a_cache():
    cache = FunctionCache(size=3)
    functions = [getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "neg", "pos")]
    wrong = []

    def work() -> None:
        for _ in range(300):
            for function in functions:
                if load_function(cache.serialize_function(function).payload) is not function:
                    wrong.append(function)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) <= 3


def test_a_module_that_is_missing_here_is_named_with_what_to_do():
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_module' in the process that runs.*install it") as caught:
        load_function(b"cno_such_module\nfunction\n.")
    assert caught.value.name == "no_such_module"
