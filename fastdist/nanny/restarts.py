"""When to start a worker again that ended: at once, after a growing pause, or not any more.

May import: nothing of fastdist.
"""

from __future__ import annotations

#: A process that ends sooner than this after its start ends early.
RAPID_DEATH = 2.0
#: This many early ends in a row with nothing to blame, and the nanny gives up.
MAX_RAPID_DEATHS = 5
#: The same for early ends by SIGKILL: nobody can tell who sends it, but it is rarely the worker's own fault.
MAX_RAPID_KILLS = 20
#: Seconds before the next start after the first, second, ... early end; the last holds for all later ones.
RESTART_DELAYS = (0.0, 0.1, 0.5, 1.0, 2.0)


class Restarts:
    """Counts the early ends of one worker.

    Examples
    --------
    >>> restarts = Restarts()
    >>> restarts.delay(60.0, blameless=False, killed=False)
    0.0
    """

    def __init__(self) -> None:
        self._deaths = 0
        self._kills = 0
        self._early = 0

    @property
    def early(self) -> int:
        """How many early ends there were in a row."""
        return self._early

    def delay(self, lived: float, *, blameless: bool, killed: bool) -> float | None:
        """Seconds until the next start after an end; None to give up.

        Parameters
        ----------
        lived : float
            Seconds from its start to its end.
        blameless : bool
            Whether something else is to blame: the tasks that it was executing, or its lifetime.
        killed : bool
            Whether it was ended by SIGKILL.
        """
        if lived > RAPID_DEATH:
            self._deaths = self._kills = self._early = 0
            return 0.0
        self._early += 1
        if blameless:
            self._deaths = self._kills = 0
        elif killed:
            self._kills += 1
        else:
            self._deaths += 1
        if self._deaths >= MAX_RAPID_DEATHS or self._kills >= MAX_RAPID_KILLS:
            return None
        return RESTART_DELAYS[min(self._early - 1, len(RESTART_DELAYS) - 1)]
