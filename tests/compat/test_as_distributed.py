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
        print(distributed is fastdist, distributed.client is fastdist.client, fastdist.client.__spec__.name)
        print(distributed.lock.Lock is fastdist.Lock, issubclass(fastdist.Client, distributed.Client))
    """).split() == ["True", "True", "fastdist.client", "True", "True"]


def test_a_module_that_fastdist_lacks_is_not_taken_from_elsewhere() -> None:
    program = """
        import fastdist.as_distributed
        try:
            import distributed.shuffle._core
        except ModuleNotFoundError as error:
            print(error.name, error)
    """
    assert "fastdist stands in for dask.distributed" in output(program)


def test_it_refuses_once_another_distributed_is_imported(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("")
    done = run("-c", "import distributed, fastdist.as_distributed", PYTHONPATH=os.pathsep.join([str(tmp_path), ROOT]))
    assert done.returncode == 1
    assert "has already been imported from" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.parametrize(("value", "expected"), [("1", "fastdist"), ("0", "other")])
def test_the_variable_decides_what_importing_fastdist_does(tmp_path: Path, value: str, expected: str) -> None:
    (tmp_path / "distributed.py").write_text("__name__ = 'other'")
    path = os.pathsep.join([str(tmp_path), ROOT])
    program = "import fastdist, distributed; print(distributed.__name__)"
    assert output(program, FASTDIST_AS_DISTRIBUTED=value, PYTHONPATH=path) == expected


def test_a_script_is_run_with_its_arguments_and_its_folder(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, distributed; print(__name__, distributed.__name__, sys.argv[1:], sys.path[0])")
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
            return distributed.__name__

        if __name__ == "__main__":
            with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    print(client.submit(name).result(), dask.delayed(abs)(-2).compute(scheduler="distributed"))
                    print(isinstance(dask.base.get_scheduler().__self__, dask.distributed.Client))
    """))
    done = run("-m", "fastdist.as_distributed", str(script))
    assert done.stdout.split() == ["fastdist", "2", "True"], done.stderr


def test_joblib_runs_on_it(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    pytest.importorskip("joblib")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent("""
        import joblib
        from dask.distributed import Client

        if __name__ == "__main__":
            with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None):
                with joblib.parallel_config("dask"):
                    print(sum(joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(20))))
    """))
    done = run("-m", "fastdist.as_distributed", str(script))
    assert done.stdout.strip() == "190", done.stderr
