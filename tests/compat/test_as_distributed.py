"""fastdist under the name of dask.distributed, each time in a fresh interpreter: imports cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastdist

ROOT = str(Path(fastdist.__file__).resolve().parent.parent)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, which finds the fastdist that is tested."""
    environ = {name: value for name, value in os.environ.items() if name != "FASTDIST_AS_DISTRIBUTED"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environ, "PYTHONPATH": ROOT, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(program: str, **variables: str) -> str:
    done = run("-c", textwrap.dedent(program), **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_modules_are_the_same_objects_and_keep_their_own_names() -> None:
    assert output("""
        import fastdist.as_distributed
        import distributed, distributed.client, distributed.deploy.spec, distributed.lock
        import fastdist.client
        from distributed.comm.addressing import get_address_host
        from distributed.deploy.local import nprocesses_nthreads
        print(distributed.__all__ is fastdist.__all__, distributed.client is fastdist.client)
        print(fastdist.client.__spec__.name)
        print(distributed.lock.Lock is fastdist.Lock, issubclass(fastdist.Client, distributed.Client))
    """).split() == ["True", "True", "fastdist.client", "True", "True"]


def test_names_are_found_as_where_everything_is_imported_at_once() -> None:
    assert output("""
        import fastdist.as_distributed
        import distributed
        import fastdist
        print(distributed.comm.get_address_host("tcp://127.0.0.1:1"), distributed.utils.import_term("math.pi") > 3)
        import distributed.worker_client
        print(distributed.worker_client is fastdist.worker_client, callable(distributed.worker_client))
        print("Client" in dir(distributed), hasattr(distributed, "nobody"), repr(distributed)[:21])
        import cloudpickle
        print([cloudpickle.loads(cloudpickle.dumps(module)) is module for module in (fastdist, distributed)])
    """).split("\n") == ["127.0.0.1 True", "True True", "True False <module 'distributed'", "[True, True]"]


def test_the_version_is_one_that_libraries_accept() -> None:
    version, own = output("""
        import fastdist.as_distributed
        import distributed, fastdist
        print(distributed.__version__, fastdist.__version__)
    """).split()
    year, month, *_ = map(int, version.split("."))
    assert (year, month) >= (2026, 8) and own == fastdist.__version__


def test_a_module_that_fastdist_lacks_is_not_taken_from_elsewhere() -> None:
    program = """
        import fastdist.as_distributed
        try:
            import distributed.shuffle._disk
        except ModuleNotFoundError as error:
            print(error.name, error)
    """
    assert "fastdist stands in for dask.distributed" in output(program)


def test_it_refuses_once_another_distributed_is_imported(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("")
    done = run("-c", "import distributed, fastdist.as_distributed", PYTHONPATH=os.pathsep.join([str(tmp_path), ROOT]))
    assert done.returncode == 1
    assert "has already been imported from" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.parametrize(("value", "expected"), [("1", "StandIn"), ("0", "module")])
def test_the_variable_decides_what_importing_fastdist_does(tmp_path: Path, value: str, expected: str) -> None:
    (tmp_path / "distributed.py").write_text("")
    path = os.pathsep.join([str(tmp_path), ROOT])
    program = "import fastdist, distributed; print(type(distributed).__name__)"
    assert output(program, FASTDIST_AS_DISTRIBUTED=value, PYTHONPATH=path) == expected


def test_a_script_is_run_with_its_arguments_and_its_folder(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    program = "print(__name__, distributed.Lock.__module__[:8], sys.argv[1:], sys.path[0])"
    script.write_text(f"import sys, distributed; {program}")
    done = run("-m", "fastdist.as_distributed", str(script), "a", "-b")
    assert done.stdout.strip() == f"__main__ fastdist ['a', '-b'] {tmp_path}", done.stderr


def test_the_commands_of_dask_are_run_as_modules() -> None:
    done = run("-m", "fastdist.as_distributed", "-m", "distributed.cli.dask_worker", "--help")
    assert done.returncode == 0 and "--nthreads" in done.stdout, done.stderr


def test_a_command_line_that_names_nothing_is_refused() -> None:
    assert run("-m", "fastdist.as_distributed").returncode == 2
    assert "no file 'missing.py'" in run("-m", "fastdist.as_distributed", "missing.py").stderr


def test_dask_and_workers_find_fastdist(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import dask
        from dask.distributed import Client, LocalCluster

        def name():
            import distributed
            return distributed.Future.__module__.partition(".")[0]

        if __name__ == "__main__":
            with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    print(client.submit(name).result(), dask.delayed(abs)(-2).compute(scheduler="distributed"))
                    print(isinstance(dask.base.get_scheduler().__self__, dask.distributed.Client))
    """))
    done = run("-m", "fastdist.as_distributed", str(script))
    assert done.stdout.split() == ["fastdist", "2", "True"], done.stderr
