"""A call that fails while a file is repacked is one error, and the same command goes on."""

from pathlib import Path

import h5py
import pytest

from tests.faults import IS_DEEP, Fault, Outcome, make_faults, repack_rows, spread, tally
from tests.repacking.same import find_differences


@pytest.mark.parametrize("fault", ["full", "EIO"])
def test_a_call_that_fails_leaves_the_old_file_and_work_to_go_on_with(
    fault: Fault, tmp_path: Path
) -> None:
    faults = make_faults(tmp_path)
    count = faults.count("repack")
    old, _ = faults.contents("repack", "a.h5")
    outcomes = faults.run("repack", fault, spread(count, None if IS_DEEP else 24))
    print(f"{fault}: {len(outcomes)} of {count} calls failed: {tally(outcomes)}")  # noqa: T201
    for outcome in outcomes:
        assert outcome.call, outcome
        check_words(outcome)
        if outcome.code != 0 and not has_new_file(outcome):
            assert outcome.content("a.h5") == old, outcome
        repack_rows(outcome.folder)  # without faults
        assert has_new_file(outcome)
        assert outcome.names() == ["a.h5", "run.json", "source.h5"], outcome


def has_new_file(outcome: Outcome) -> bool:
    """Return whether the rows of the source are in the file, in their new order."""
    folder = outcome.folder
    with h5py.File(folder / "source.h5") as one, h5py.File(folder / "a.h5") as other:
        if "row_order" not in other:
            return False
        order = other["row_order"][()]
        return not list(find_differences(one, other, order, added="row_order"))


def check_words(outcome: Outcome) -> None:
    """Raise unless the process ended with one sentence of ours."""
    assert outcome.code in (0, 1), outcome
    if outcome.code == 1:
        last = outcome.errors.splitlines()[-1]
        assert last.startswith("kerash5._errors.FileError: "), outcome
        assert "could not be written" in last, outcome
