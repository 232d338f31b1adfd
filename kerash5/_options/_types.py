"""Types of options on the command line and in config.yaml, where they differ from Python's."""

from __future__ import annotations

from typing import Any, Final

AS_TEXT: Final = "as_text"  # key in the metadata of a field
PYTHON_ONLY: Final[dict[str, Any]] = {AS_TEXT: None}
