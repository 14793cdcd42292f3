"""The transitions of the scheduler's task states."""

LEGAL: tuple[tuple[str, str], ...]
