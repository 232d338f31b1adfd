"""Unknown keywords of `Column` are refused with the right one."""

from __future__ import annotations

from typing import Any

import pytest

from kerash5._errors import OptionError
from kerash5.h5 import Column


@pytest.mark.parametrize(
    ("name", "cure"),
    [("window", "windows_from_series"), ("slice", "select="), ("shap", "did you mean 'shape'")],
)
def test_an_unknown_keyword_names_the_right_one(name: str, cure: str) -> None:
    column: Any = Column
    with pytest.raises(OptionError, match=cure):
        column("x", **{name: 3})
