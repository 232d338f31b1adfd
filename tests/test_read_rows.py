"""The benchmark of reading, over a few rows: it measures what it says, and judges by it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import read_rows
from _decode_limit import DecodeLimit
from _harness import Outcome, ResultFile, num_cores
from _peer_process import PEERS, PeerError, PeerProcess, check

H5PY = "h5py, sorted fancy indexing"


def test_a_layout_is_measured_beside_a_peer_and_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "read_rows.jsonl"
    asked = f"--rows 2000 --rounds 1 --seconds 0.1 --out {out} --folder {tmp_path}".split()
    peers = [H5PY, "tf.data + TFRecord"]
    python = "tensorflow=" + str(tmp_path / "no-python")
    words = [*asked, "--python", python, "--layouts", "gzip-64", "--peers", *peers]
    monkeypatch.setattr(sys, "argv", ["read_rows.py", *words])
    read_rows.main()
    file, outcomes = ResultFile.read(out)
    assert file.about["rows"] == 2000
    ours = {outcome.way: outcome for outcome in outcomes if not outcome.part}
    ways = ("NumPy", "all fits", "first epoch", "a tenth fits", "decoding alone")
    assert set(ours) == {*ways, "a tenth fits / decoding alone"}
    assert all(value > 0 for outcome in ours.values() for value in outcome.values)
    everyone = {outcome.case: outcome for outcome in outcomes if outcome.part == "peers"}
    assert everyone[H5PY].shares[0] == pytest.approx(
        everyone[H5PY].values[0] / ours["NumPy"].values[0], rel=1e-2
    )
    assert "gzip-64, all fits: " in capsys.readouterr().out


def test_the_limit_decodes_every_chunk(tmp_path: Path) -> None:
    rows, labels = read_rows.make_rows(None, 640)
    path = read_rows.Data(rows, labels, tmp_path).write("gzip-64")
    limit = DecodeLimit(path, "image", rows.nbytes * num_cores())  # so that nothing is overwritten
    assert limit.codec in {"libdeflate", "zlib-ng"}
    assert limit.seconds() > 0
    decoded = {chunk.tobytes() for arena in limit._arenas for chunk in arena if chunk.any()}
    chunks = {rows[start : start + 64].tobytes() for start in range(0, 640, 64)}
    assert chunks == decoded


@pytest.mark.parametrize(
    ("case", "way", "share", "verdict"),
    [
        ("gzip-64", read_rows.ALL, 0.95, "met"),
        ("gzip-64", read_rows.ALL, 0.85, "MISSED"),
        ("one row per gzip chunk", read_rows.ALL, 0.75, "met"),
        ("contiguous", read_rows.TENTH, 0.5, "MISSED"),
        ("lzf-64", read_rows.OF_LIMIT, 0.81, "met"),
    ],
)
def test_targets_are_judged_by_the_median(case: str, way: str, share: float, verdict: str) -> None:
    outcome = Outcome(case=case, way=way, values=[1, 1, 1], shares=[0.1, share, 2.0], of="x")
    (line,) = read_rows.judge([outcome])
    assert line.startswith(f"{verdict}: {case}, {way}: {share:.3f}")


def test_batches_that_are_not_the_rows_are_refused() -> None:
    rows, _ = read_rows.make_rows(None, 4)
    check(rows[[2, 0]], rows)
    with pytest.raises(PeerError, match="int64"):
        check(rows.astype(np.int64), rows)
    with pytest.raises(PeerError, match="not the ones"):
        check(255 - rows[..., [0, 0, 1]], rows)


def test_a_peer_without_its_library_says_so(tmp_path: Path) -> None:
    missing = next(name for name in PEERS if PEERS[name].runs_in == "litdata")
    rows, labels = read_rows.make_rows(None, 4)
    read_rows.Data(rows, labels, tmp_path).save()
    process = PeerProcess(missing, sys.executable, tmp_path)
    try:
        with pytest.raises(PeerError, match="litdata"):
            process.ask("convert")
    finally:
        process.close()
