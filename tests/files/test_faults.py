"""A call that fails while a file is written is one error, and nothing is lost or left behind."""

import pytest

from tests.faults import IS_DEEP, Fault, Faults, Outcome, make_faults, spread, tally

HDF5 = ("gzip", "contiguous", "chunks", "new file", "rows", "new rows")
FEW = ("gzip", "new file", "rows", "run")
MOST = 4  # calls of a writer that fail in a push; all of them in the session `deep`


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return make_faults(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", ["full", "EIO"])
@pytest.mark.parametrize("writer", FEW)
def test_a_call_that_fails_is_one_error_and_leaves_the_old_file(
    faults: Faults, writer: str, fault: Fault
) -> None:
    check_writer(faults, writer, fault, most=MOST)


@pytest.mark.deep
@pytest.mark.skipif(not IS_DEEP, reason="every call: nox -s deep")
@pytest.mark.parametrize("fault", ["full", "EIO"])
@pytest.mark.parametrize("writer", [*HDF5, "run"])
def test_every_call_that_fails_is_one_error_and_leaves_the_old_file(
    faults: Faults, writer: str, fault: Fault
) -> None:
    check_writer(faults, writer, fault, most=None)


def check_writer(faults: Faults, writer: str, fault: Fault, *, most: int | None) -> None:
    """Let calls of a writer fail, and check each outcome."""
    name = "run.json" if writer == "run" else "a.h5"
    count = faults.count(writer)
    old, new = faults.contents(writer, name)
    outcomes = faults.run(writer, fault, spread(count, most))
    print(f"{writer}, {fault}: {len(outcomes)} of {count} calls failed: {tally(outcomes)}")  # noqa: T201
    others = ["a.h5", "run.json"] if old is not None else []
    for outcome in outcomes:
        assert outcome.call, outcome
        assert outcome.names() == sorted({*others, *([name] if outcome.code == 0 else [])})
        assert outcome.content(name) == (new if outcome.code == 0 else old), outcome
        check_words(outcome)


def check_words(outcome: Outcome) -> None:
    """Raise unless the writer said what failed, in one sentence."""
    last = outcome.errors.splitlines()[-1]
    if outcome.code == 0:  # the file is whole, but its name may not be on the disk
        assert outcome.call.startswith("fsync")
        assert "could not be synced to disk" in outcome.errors
    else:
        assert outcome.code == 1, outcome
        assert last.startswith("kerash5._errors.FileError: "), outcome
        assert "could not be written" in last
