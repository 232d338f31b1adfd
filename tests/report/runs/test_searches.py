"""What searches found: suggestions lie where the curve falls, and pictures show it."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from kerash5._errors import FileError
from kerash5.report import BatchSizes, LearningRates, Trial

RATES = tuple(np.geomspace(1e-6, 1, 100).tolist())


def curve(centre: float, *, noise: float = 0.0) -> LearningRates:
    """Return a loss that falls most steeply at `centre`, and explodes two decades later."""
    decades = np.log10(np.asarray(RATES) / centre)
    losses = 1.2 - np.tanh(2 * decades) + np.where(decades > 2, 10 ** (3 * (decades - 2)) - 1, 0)
    losses += noise * np.random.default_rng(3).standard_normal(len(losses))
    return LearningRates(RATES, tuple(losses.tolist()))


@pytest.mark.parametrize("centre", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["smooth", "noisy"])
def test_the_rate_where_the_loss_falls_most_is_suggested(centre: float, noise: float) -> None:
    suggestion = curve(centre, noise=noise).suggestion
    assert suggestion is not None
    assert abs(math.log10(suggestion / centre)) < 0.35


def test_one_lucky_batch_is_no_descent() -> None:
    smooth = curve(1e-3)
    losses = list(smooth.losses)
    losses[30] = losses[31] = -5.0
    assert LearningRates(RATES, tuple(losses)).suggestion == pytest.approx(
        smooth.suggestion, rel=0.2
    )


@pytest.mark.parametrize(
    "losses",
    [
        tuple(np.linspace(1, 2, 100)),
        (1.0,) * 100,
        (2.0, 1.0, math.nan),
        (math.nan,),
    ],
    ids=["rising", "flat", "too short", "nan"],
)
def test_a_loss_that_never_falls_gives_no_suggestion(
    losses: tuple[float, ...], tmp_path: Path
) -> None:
    found = LearningRates(RATES[: len(losses)], losses)
    assert found.suggestion is None
    assert "no learning rate found" in found.describe()
    pytest.importorskip("matplotlib")
    assert Path(found.plot(tmp_path / "rates.png")).stat().st_size > 1000


def test_losses_after_the_first_nan_are_left_out() -> None:
    whole = curve(1e-3)
    losses = (*whole.losses[:90], math.nan, *(0.0,) * 9)
    found = LearningRates(RATES, losses)
    assert len(found.smoothed) == 90
    assert found.suggestion == pytest.approx(whole.suggestion, rel=0.2)


def test_the_curve_says_what_to_take_and_draws_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = curve(1e-3)
    assert f"{found.suggestion:.2e}" in found.describe()
    path = found.plot(tmp_path / "rates.png")
    header = Path(path).read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (896, 560)


SIZES = BatchSizes(
    (
        Trial(32, 1000.0, 200_000_000),
        Trial(64, 1800.0, 300_000_000),
        Trial(96, 1700.0),
        Trial(128, error="out of memory"),
    )
)


def test_the_largest_and_the_fastest_batch_size_are_named(tmp_path: Path) -> None:
    assert (SIZES.largest, SIZES.fastest) == (96, 64)
    assert SIZES.describe().splitlines() == [
        "batch size 32: 1,000 rows/s, 200 MB",
        "batch size 64: 1,800 rows/s, 300 MB",
        "batch size 96: 1,700 rows/s",
        "batch size 128: failed, out of memory",
        "largest that fits: 96; fastest: 64",
    ]
    pytest.importorskip("matplotlib")
    assert Path(SIZES.plot(tmp_path / "sizes.png")).stat().st_size > 1000


def test_no_batch_size_may_train() -> None:
    none = BatchSizes((Trial(1, error="killed"),))
    assert (none.largest, none.fastest) == (None, None)
    assert none.describe().endswith("no batch size trains")


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(FileError, match=r"cannot be written .*choose another path"):
        curve(1e-3).plot(tmp_path / "nowhere" / "rates.png")
