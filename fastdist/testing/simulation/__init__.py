"""The real cores of scheduler, workers and clients in one process, on a virtual clock, network and disk.

A seed draws a cluster, what its users do and what goes wrong; messages come late, in any order between connections and
sometimes twice. `monitor` says what must hold. The same seed gives the same trace. `python -m
fastdist.testing.simulation` runs seed after seed. May import: every layer below.
"""

from fastdist.testing.simulation.monitor import Violation
from fastdist.testing.simulation.simulation import Report, Scenario, Simulation, assert_seed_passes, run_seed

__all__ = ["Report", "Scenario", "Simulation", "Violation", "assert_seed_passes", "run_seed"]
