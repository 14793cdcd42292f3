"""Linear fusion: which nodes become one."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdist._core.graph.fuse import fuse_linear


def fused(
    needs: list[list[int]],
    fixed: tuple[int, ...] = (),
    labels: list[int] | None = None,
    weights: list[int] | None = None,
    max_weight: int = 100,
) -> list[int]:
    offsets, edges = array("I", [0]), array("I")
    for some in needs:
        edges.extend(some)
        offsets.append(len(edges))
    n = len(needs)
    flags = bytes(number in fixed for number in range(n))
    one = array("I", [1]) * n
    return list(
        fuse_linear(offsets, edges, flags, array("I", labels or [0] * n), array("I", weights or one), max_weight)
    )


def test_a_chain_ends_in_its_last_node():
    assert fused([[], [0], [1], [2]], fixed=(3,)) == [1, 2, 3, 3]


def test_numbers_need_not_follow_the_chain():
    assert fused([[2], [0], []]) == [1, 1, 0]


def test_what_two_nodes_need_stays():
    assert fused([[], [0], [0], [1, 2]]) == [0, 1, 2, 3]


def test_a_node_that_needs_two_continues_no_chain():
    assert fused([[], [0], [], [1, 2], [3]]) == [1, 1, 2, 4, 4]


def test_a_wanted_node_is_not_followed():
    assert fused([[], [0], [1]], fixed=(1,)) == [1, 1, 2]


def test_nodes_of_other_kinds_stay_apart():
    assert fused([[], [0], [1], [2]], labels=[0, 0, 5, 5]) == [1, 1, 3, 3]


def test_long_chains_are_cut_by_weight():
    assert fused([[], [0], [1], [2], [3]], max_weight=2) == [1, 1, 3, 3, 4]
    assert fused([[], [0], [1], [2]], weights=[1, 1, 3, 1], max_weight=3) == [1, 1, 2, 3]


def test_circles_stay_for_others_to_report():
    assert fused([[1], [0], [2]]) == [0, 1, 2]


def test_nothing_is_fused_of_nothing():
    assert fused([]) == []


def test_arrays_of_different_graphs_are_refused():
    with pytest.raises(ValueError, match="do not belong"):
        fuse_linear(array("I", [0]), array("I"), b"\0", array("I", [0]), array("I", [1]), 10)


@given(st.data(), st.integers(1, 12))
def test_what_is_fused_is_needed_by_the_next_one_only(data: st.DataObject, size: int) -> None:
    needs = [sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=2))) if i else [] for i in range(size)]
    labels = data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    into = fused(needs, labels=labels, max_weight=4)
    for node, target in enumerate(into):
        if target != node:
            assert needs[target] == [node]
            assert sum(node in some for some in needs) == 1
            assert labels[node] == labels[target]
        chain = 1
        while into[node] != node:
            node, chain = into[node], chain + 1
        assert chain <= 4
