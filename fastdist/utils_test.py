"""What test suites import from `distributed.utils_test`, under the same names. It imports pytest.

May import: `testing`.
"""

from __future__ import annotations

from fastdist.aliases import names_of
from fastdist.testing.capturing import (
    captured_handler,
    captured_logger,
    has_pytestmark,
    new_config_file,
    nodebug,
    popen,
    raises_with_cause,
    save_sys_modules,
)
from fastdist.testing.cleaning import check_instances, check_process_leak, check_thread_leak, clean
from fastdist.testing.clusters import (
    cluster,
    config_for_cluster_tests,
    end_cluster,
    gen_cluster,
    gen_test,
    new_config,
    start_cluster,
)
from fastdist.testing.fixtures import (
    a,
    b,
    c,
    cleanup,
    client,
    cluster_fixture,
    loop,
    loop_in_thread,
    name_of_test,
    s,
)
from fastdist.testing.functions import (
    SizeOf,
    asyncinc,
    block_on_event,
    dec,
    div,
    double,
    gen_nbytes,
    inc,
    lock_inc,
    map_varying,
    mul,
    randominc,
    run_for,
    slowadd,
    slowdec,
    slowdouble,
    slowidentity,
    slowinc,
    slowsum,
    throws,
    varying,
)
from fastdist.testing.waiting import async_poll_for, padded_time, poll_for, wait_for_state

__all__ = [
    "SizeOf",
    "a",
    "async_poll_for",
    "asyncinc",
    "b",
    "block_on_event",
    "c",
    "captured_handler",
    "captured_logger",
    "check_instances",
    "check_process_leak",
    "check_thread_leak",
    "clean",
    "cleanup",
    "client",
    "cluster",
    "cluster_fixture",
    "config_for_cluster_tests",
    "dec",
    "div",
    "double",
    "end_cluster",
    "gen_cluster",
    "gen_nbytes",
    "gen_test",
    "has_pytestmark",
    "inc",
    "lock_inc",
    "loop",
    "loop_in_thread",
    "map_varying",
    "mul",
    "name_of_test",
    "new_config",
    "new_config_file",
    "nodebug",
    "padded_time",
    "poll_for",
    "popen",
    "raises_with_cause",
    "randominc",
    "run_for",
    "s",
    "save_sys_modules",
    "slowadd",
    "slowdec",
    "slowdouble",
    "slowidentity",
    "slowinc",
    "slowsum",
    "start_cluster",
    "throws",
    "varying",
    "wait_for_state",
]

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
