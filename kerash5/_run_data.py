"""The data of a run, opened again from the config.yaml in its folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from kerash5._errors import FileError, FileMissingError, OptionError, RunError
from kerash5._options import DataOptions, check_aliases


def read_data_options(folder: Path, test: str | None, *, flag: str = "--test") -> DataOptions:
    """Return the data of a run, with another test file if one is given by `flag`."""
    path = folder / "config.yaml"
    if not path.exists():
        raise FileMissingError(f"no {str(path)!r}; name the run_dir of a Trainer")
    try:
        text = path.read_text(encoding="utf-8")
        check_aliases(text, repr(str(path)))
        values = dict(yaml.safe_load(text)["data"])
    except OptionError:
        raise
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(
            f"{str(path)!r} is no config.yaml of a run ({error!r}); train it again"
        ) from error
    # Neither concerns the test file; both may have been arrays.
    values = {**values, "validation_split": None, "validation_data": None, "rows": None}
    if test is not None:
        values["test"] = test
    if "train" not in values or any(_is_described(value) for value in values.values()):
        raise RunError(
            f"the data of the run at {str(folder)!r} were made in Python and cannot be opened "
            "again from here; test it there, with Trainer.test"
        )
    if values.get("test") is None:
        raise RunError(f"the run at {str(folder)!r} has no test file; give one with {flag} FILE")
    known = DataOptions.__dataclass_fields__
    return DataOptions(**{name: value for name, value in values.items() if name in known})


def _is_described(value: object) -> bool:
    """Return whether config.yaml has only a description of this value."""
    return isinstance(value, dict) and set(value) == {"described"}
