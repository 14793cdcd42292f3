"""Libraries that know only dask.distributed run on fastdist, each in a fresh interpreter that it stands in for.

Each test is skipped where its library is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastdist

pytest.importorskip("dask")

ROOT = str(Path(fastdist.__file__).resolve().parent.parent)


def need(library: str) -> None:
    """Skip the test if a library is missing; it is not imported, since some change signal handlers and settings."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def lines_of(program: str, folder: Path) -> list[str]:
    """What a program prints that runs in place of dask.distributed's own script."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-m", "fastdist.as_distributed", str(script)],
        env={**os.environ, "PYTHONPATH": ROOT},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Not with the others: nested calls have hung once on a busy machine, and the cause is not known yet.
@pytest.mark.slow
def test_joblib_runs_nested_calls_and_gives_back_errors(tmp_path: Path) -> None:
    need("joblib")
    assert lines_of(
        """
        import joblib
        from dask.distributed import Client, get_worker

        def fail(x):
            raise ValueError(f"no {x}")

        def inner(x):
            return x + 1

        def outer(x):
            get_worker()
            return sum(joblib.Parallel()(joblib.delayed(inner)(x) for _ in range(3)))

        if __name__ == "__main__":
            big = list(range(100_000))
            with Client(n_workers=2, threads_per_worker=2, dashboard_address=None):
                with joblib.parallel_config("dask"):
                    print(sum(joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(20))))
                    print(joblib.Parallel()(joblib.delayed(outer)(i) for i in range(4)))
                    try:
                        joblib.Parallel()(joblib.delayed(fail)(i) for i in range(4))
                    except ValueError as error:
                        print("ValueError", str(error).split()[0])
                with joblib.parallel_config("dask", scatter=[big]):
                    print(joblib.Parallel()(joblib.delayed(len)(big) for _ in range(3)))
        """,
        tmp_path,
    ) == ["190", "[3, 6, 9, 12]", "ValueError no", "[100000, 100000, 100000]"]


def test_xarray_finds_its_distributed_scheduler(tmp_path: Path) -> None:
    need("xarray")
    assert lines_of(
        """
        import numpy as np
        import xarray as xr
        from dask.distributed import Client, Lock
        from xarray.backends.locks import get_dask_scheduler, get_write_lock

        if __name__ == "__main__":
            with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
                print(get_dask_scheduler())
                with get_write_lock("file"):
                    print(isinstance(get_write_lock("file"), Lock), get_write_lock("file").locked())
                numbers = xr.Dataset({"a": (("x", "y"), np.arange(60.0).reshape(10, 6))}).chunk(x=3)
                kept = numbers.persist()
                print(float(kept.a.mean().compute()), float(kept.a.rolling(x=2).mean().sum().compute()))
                print(type(client.compute(numbers).result()).__name__)
                more = xr.apply_ufunc(lambda a: a + 1, numbers.a, dask="parallelized", output_dtypes=[float])
                twice = xr.map_blocks(lambda part: part * 2, numbers).a
                print(more.sum().compute().item(), twice.sum().compute().item())
            print(get_dask_scheduler())
        """,
        tmp_path,
    ) == ["distributed", "True True", "29.5 1593.0", "Dataset", "1830.0 3540.0", "threaded"]


def test_xarray_opens_files_in_tasks(tmp_path: Path) -> None:
    need("xarray")
    need("scipy")
    assert lines_of(
        """
        import numpy as np
        import xarray as xr
        from dask.distributed import Client

        if __name__ == "__main__":
            paths = [f"{i}.nc" for i in range(3)]
            for i, path in enumerate(paths):
                xr.Dataset({"a": ("x", np.arange(4.0) + 4 * i)}).to_netcdf(path, engine="scipy")
            options = {"engine": "scipy", "combine": "nested", "concat_dim": "x", "parallel": True}
            with Client(n_workers=1, threads_per_worker=2, dashboard_address=None):
                with xr.open_mfdataset(paths, **options) as numbers:
                    print(numbers.a.sum().compute().item())
        """,
        tmp_path,
    ) == ["66.0"]


def test_xgboost_trains_on_all_workers(tmp_path: Path) -> None:
    need("xgboost")
    printed = lines_of(
        """
        import dask.array as da
        import xgboost.dask
        from dask.distributed import Client, LocalCluster

        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    points = da.random.default_rng(0).random((1_000, 5), chunks=(250, 5))
                    values = points[:, 0] * 3 + points[:, 1]
                    data = xgboost.dask.DaskDMatrix(client, points, values)
                    options = {"tree_method": "hist", "max_depth": 3, "verbosity": 0}
                    trained = xgboost.dask.train(client, options, data, num_boost_round=10)
                    found = xgboost.dask.predict(client, trained, points)
                    error = float(abs(found - values).mean().compute())
                    model = xgboost.dask.DaskXGBRegressor(n_estimators=3, max_depth=2, verbosity=0)
                    model.client = client
                    whole = model.fit(points, values).predict(points).compute()
                    print("found:", error < 0.2, whole.shape)
        """,
        tmp_path,
    )
    # Both workers take part, and say so as well.
    assert "found: True (1000,)" in printed
    assert {line.rpartition(" ")[2] for line in printed if "got rank" in line} == {"0", "1"}


def test_dask_jobqueue_starts_workers_by_a_script(tmp_path: Path) -> None:
    need("dask_jobqueue")
    script, values, processes = lines_of(
        """
        import os
        from dask.distributed import Client
        from dask_jobqueue.local import LocalCluster

        if __name__ == "__main__":
            options = {"dashboard_address": None}
            with LocalCluster(cores=1, processes=1, memory="1GB", interface="lo", scheduler_options=options) as cluster:
                print(cluster.job_script().split())
                cluster.scale(jobs=2)
                with Client(cluster) as client:
                    client.wait_for_workers(2, timeout=60)
                    print(client.gather(client.map(lambda x: x + 1, range(4))))
                    print(len({os.getpid(), *client.run(os.getpid).values()}))
        """,
        tmp_path,
    )
    assert "'-m', 'fastdist.as_distributed', '-m', 'distributed.cli.dask_worker', 'tcp://127.0.0.1:" in script
    assert values == "[1, 2, 3, 4]" and processes == "3"
