"""Blocks: every row lies in one block, no block straddles two parts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5.order._blocks import Blocks


@st.composite
def blocks(draw: st.DrawFn) -> Blocks:
    """Draw blocks over up to five parts, some of them empty, with at least one row."""
    parts = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any))
    return Blocks(np.concatenate([[0], np.cumsum(parts)]), draw(st.integers(1, 15)))


def parts_of(blocks: Blocks, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(blocks.part_starts, rows, side="right")


@given(blocks())
def test_bounds_tile_all_rows_in_order(blocks: Blocks) -> None:
    starts, stops = blocks.bounds(np.arange(len(blocks)))
    assert starts[0] == 0
    assert stops[-1] == blocks.num_rows
    assert_array_equal(starts[1:], stops[:-1])
    assert ((stops - starts >= 1) & (stops - starts <= blocks.block_rows)).all()


@given(blocks())
def test_every_row_lies_within_the_bounds_of_its_block(blocks: Blocks) -> None:
    rows = np.arange(blocks.num_rows)
    starts, stops = blocks.bounds(blocks.of_rows(rows))
    assert ((starts <= rows) & (rows < stops)).all()
    assert_array_equal(np.unique(blocks.of_rows(rows)), np.arange(len(blocks)))


@given(blocks())
def test_no_block_straddles_two_parts(blocks: Blocks) -> None:
    starts, stops = blocks.bounds(np.arange(len(blocks)))
    assert_array_equal(parts_of(blocks, starts), parts_of(blocks, stops - 1))


@given(blocks())
def test_only_the_last_block_of_a_part_is_short(blocks: Blocks) -> None:
    starts, stops = blocks.bounds(np.arange(len(blocks)))
    is_last = np.isin(stops, blocks.part_starts)
    assert (((stops - starts) == blocks.block_rows) | is_last).all()


@given(blocks(), st.integers(1, 30))
def test_coarser_blocks_are_few_and_made_of_whole_ones(blocks: Blocks, max_blocks: int) -> None:
    coarse = blocks.coarser(max_blocks)
    num_parts = len(blocks.part_starts) - 1
    assert len(coarse) <= max_blocks + num_parts
    assert set(coarse.bounds(np.arange(len(coarse)))[0]) <= set(
        blocks.bounds(np.arange(len(blocks)))[0]
    )


@given(blocks())
def test_blocks_that_are_few_enough_stay_as_they_are(blocks: Blocks) -> None:
    assert blocks.coarser(len(blocks)) is blocks


@given(blocks(), st.data())
def test_a_cut_parts_selected_rows_exactly_where_the_block_changes(
    blocks: Blocks, data: st.DataObject
) -> None:
    rows = np.array(
        sorted(data.draw(st.lists(st.integers(0, blocks.num_rows - 1), min_size=1, max_size=60)))
    )
    cut = blocks.block_starts(rows)
    pieces = np.split(blocks.of_rows(rows), cut[1:-1])
    assert (cut[0], cut[-1]) == (0, len(rows))
    assert all(len(np.unique(piece)) == 1 for piece in pieces)
    assert [piece[0] for piece in pieces] == np.unique(blocks.of_rows(rows)).tolist()


@given(blocks())
def test_the_cut_of_all_rows_is_that_of_each_row_selected(blocks: Blocks) -> None:
    assert_array_equal(blocks.block_starts(None), blocks.block_starts(np.arange(blocks.num_rows)))


def test_a_cut_names_the_blocks_of_two_parts() -> None:
    assert Blocks(np.array([0, 7, 12]), 3).block_starts(None).tolist() == [0, 3, 6, 7, 10, 12]
