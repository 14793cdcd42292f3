"""The smallest proof that an installed fastdist works: every module imports, one cluster runs one task.

Run as a script by CI on each interpreter of the machine. May import: fastdist.
"""

import importlib
import pkgutil
import sys

#: They are of use inside pytest only, which is not installed here.
FOR_PYTEST = ("fastdist.testing.fixtures", "fastdist.utils_test")


def import_everything() -> int:
    """Import every module of the installed package; returns how many there are."""
    import fastdist

    found = pkgutil.walk_packages(fastdist.__path__, "fastdist.")
    names = [module.name for module in found if module.name not in FOR_PYTEST]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return len(names)


def run_one_task() -> None:
    """Start a cluster of one worker process and run one task on it."""
    from fastdist import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        assert client.submit(pow, 2, 10).result(timeout=30) == 1024


if __name__ == "__main__":
    run_one_task()
    print(f"CPython {sys.version.split()[0]}: one task ran, {import_everything()} modules import")
