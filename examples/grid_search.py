"""Search the best parameters of a scikit-learn classifier on worker processes, through joblib's dask backend.

    python -m fastdist.as_distributed examples/grid_search.py [--samples 2000] [--workers 2] [--small]

Needs `fastdist[dask]` and scikit-learn. joblib looks for dask.distributed, in whose place `fastdist.as_distributed`
puts fastdist; importing it at the top does the same. The program searches twice, on the cluster and without it, and
has to find the same. May import: fastdist, joblib, scikit-learn, numpy, the standard library.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

import fastdist.as_distributed  # noqa: F401 - joblib finds it as dask.distributed
from fastdist import Client

GRID: dict[str, list[Any]] = {"max_depth": [2, 4, 8], "min_samples_leaf": [1, 5], "max_features": ["sqrt", None]}
SMALL_GRID: dict[str, list[Any]] = {"max_depth": [2, 4], "min_samples_leaf": [5]}


def search(grid: dict[str, list[Any]], samples: int) -> GridSearchCV:
    """Fit a tree for all parameters, each on three parts of the same invented samples."""
    points, labels = make_classification(samples, n_features=12, n_informative=6, random_state=5)
    finder = GridSearchCV(DecisionTreeClassifier(random_state=7), grid, cv=3)
    finder.fit(points, labels)
    return finder


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line, search, print; the best parameters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="few samples and parameters: a few seconds")
    options = parser.parse_args(arguments)
    grid, samples = (SMALL_GRID, 200) if options.small else (GRID, options.samples)

    with Client(n_workers=options.workers, threads_per_worker=1) as client, joblib.parallel_config("dask"):
        start = time.perf_counter()
        found = search(grid, samples)
        seconds = time.perf_counter() - start
        fits = len(found.cv_results_["params"]) * found.n_splits_
        workers = len(client.nthreads())
    expected = search(grid, samples)

    assert np.allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert found.best_params_ == expected.best_params_
    print(f"best of {fits} fits on {workers} workers in {seconds:.2f} s: {found.best_params_}")
    print(f"right for {found.best_score_:.0%} of the samples")
    return dict(found.best_params_)


if __name__ == "__main__":
    main()
