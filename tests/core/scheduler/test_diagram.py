"""The state diagrams in the README of the core are those of the tables in the code.

Run as a script (`python tests/core/scheduler/test_diagram.py`) it draws them anew.
May import: fastdist._core, the standard library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from fastdist._core.scheduler.transitions import LEGAL
from fastdist._core.worker.transitions import TRANSITIONS

ROOT = Path(os.environ.get("SOURCE_TREE") or Path(__file__).resolve().parents[3])
README = ROOT / "fastdist" / "_core" / "README.md"
BLOCK = "<!-- {name} -->\n```mermaid\n{drawing}\n```\n"


def draw(edges: Iterable[tuple[str, str]], first: Iterable[str], last: Iterable[str]) -> str:
    """A state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in first]
    lines += [f"    {start} --> {finish}" for start, finish in edges]
    lines += [f"    {state} --> [*]" for state in last]
    return "\n".join(lines)


def worker_edges() -> list[tuple[str, str]]:
    """The worker's table as pairs of names."""
    edges = [(start, finish) for start, following in TRANSITIONS.items() for finish in following]
    return [(start.name.lower(), finish.name.lower()) for start, finish in edges]


def drawings() -> dict[str, str]:
    """All diagrams by name."""
    worker = draw(worker_edges(), ["released"], ["released"])
    return {
        "scheduler": draw(LEGAL, ["released"], ["released", "scattering"]),
        "worker": worker,
    }


def redrawn(text: str) -> str:
    """The README with its diagrams drawn anew."""
    for name, drawing in drawings().items():
        block = BLOCK.format(name=name, drawing=drawing)
        text, count = re.subn(rf"<!-- {name} -->\n```mermaid\n.*?\n```\n", lambda _, new=block: new, text, flags=re.S)
        assert count == 1, f"the README has no place for the diagram of the {name}"
    return text


def test_the_diagrams_are_those_of_the_tables() -> None:
    text = README.read_text()
    assert text == redrawn(text), f"draw them anew: python {Path(__file__).name}"


if __name__ == "__main__":
    README.write_text(redrawn(README.read_text()))
