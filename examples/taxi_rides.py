"""A year of invented taxi rides as a dask dataframe: join, group, resample and write, on worker processes.

    python examples/taxi_rides.py [--days 30] [--rides 2000] [--workers 2] [--folder FOLDER] [--small]

Needs `fastdist[dask]`. Writes the cleaned rides as Parquet into the folder (a temporary one by default), reads them
back and checks that nothing got lost. May import: fastdist, dask, pandas, numpy, the standard library.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd

from fastdist import Client

FIRST_DAY = pd.Timestamp("2025-01-01")
ZONES = pd.DataFrame(
    {"zone": range(12), "borough": ["north", "south", "east", "west"] * 3, "fee": np.linspace(1, 3, 12)}
)


def rides_of_day(day: int, rides: int) -> pd.DataFrame:
    """The rides of one day: the same numbers whenever they are made."""
    random = np.random.default_rng(day)
    start = FIRST_DAY + pd.Timedelta(days=day)
    return pd.DataFrame(
        {
            "pickup": start + pd.to_timedelta(np.sort(random.integers(0, 86_400, rides)), unit="s"),
            "zone": random.integers(0, len(ZONES), rides),
            "distance": random.gamma(2, 2, rides).round(2),
            "passengers": random.integers(0, 5, rides),
        }
    )


def make_rides(days: int, rides: int) -> dd.DataFrame:
    """The rides of all days, one partition for each."""
    return dd.from_map(rides_of_day, range(days), rides=rides, meta=rides_of_day(0, 1))


def clean(rides: dd.DataFrame) -> dd.DataFrame:
    """Rides with passengers, with what they cost."""
    known = rides[rides.passengers > 0].merge(ZONES, on="zone")
    return known.assign(fare=known.fee + 2.5 * known.distance)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Parse the command line, compute, print; what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rides", type=int, default=2_000, help="of one day")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", help="where to write the rides")
    parser.add_argument("--small", action="store_true", help="8 days of 100 rides: a few seconds")
    options = parser.parse_args(arguments)
    if options.small:
        options.days, options.rides = 8, 100
    with Client(n_workers=options.workers, threads_per_worker=1), tempfile.TemporaryDirectory() as temporary:
        start = time.perf_counter()
        rides = clean(make_rides(options.days, options.rides)).persist()
        by_borough = rides.groupby("borough").fare.agg(["sum", "mean", "count"]).compute()
        busiest = rides.groupby(rides.pickup.dt.hour).size().compute().idxmax()
        weekly = rides.set_index("pickup", sorted=True).fare.resample("7D").sum().compute()
        folder = options.folder or temporary
        rides.to_parquet(folder, write_index=False)
        read = dd.read_parquet(folder).fare.sum().compute()
        seconds = time.perf_counter() - start
    found = {"total": float(by_borough["sum"].sum()), "weekly": float(weekly.sum()), "read": float(read)}
    assert np.allclose(found["total"], [found["weekly"], found["read"]]), found
    print(by_borough.round(2).sort_index().to_string())
    print(f"busiest hour: {busiest}; best week: {weekly.idxmax():%Y-%m-%d}")
    print(f"{int(by_borough['count'].sum())} rides in {seconds:.2f} s")
    return found


if __name__ == "__main__":
    main()
