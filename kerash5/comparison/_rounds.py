"""Schedule the processes of a comparison, and check the folder of their results.

A round is one repeat: each contender with each setting and batch size, once, in random order. Drift
of the machine during a round therefore affects all contenders alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

from kerash5._errors import FileError, OptionError
from kerash5._json import read_values, write_values
from kerash5.comparison._children import Contender
from kerash5.comparison._parity import Setting
from kerash5.comparison._results import Method, Sample
from kerash5.files import replace_text
from kerash5.order._permutation import make_key, permutation

METHOD_FILE: Final = "method.json"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """One process of a comparison: contender, setting, batch size, round and position."""

    contender: Contender
    setting: Setting
    batch_size: int
    repeat: int
    position: int

    def sample(self, model: str) -> Sample:
        """Return the fields of its sample that are known before it runs."""
        return Sample(
            contender=self.contender.name,
            backend=self.contender.backend,
            model=model,
            batch_size=self.batch_size,
            setting=self.setting,
            repeat=self.repeat,
            position=self.position,
        )


def schedule_runs(method: Method, contenders: Sequence[Contender]) -> Iterator[ScheduledRun]:
    """Yield every process of a comparison, in rounds of random order determined by the seed."""
    runs = [
        (contender, setting, size)
        for contender in contenders
        for setting in method.settings
        for size in method.batch_sizes
    ]
    for repeat in range(method.repeats):
        order = permutation(len(runs), make_key(method.seed, repeat))
        for offset, index in enumerate(order.tolist()):
            contender, setting, size = runs[index]
            yield ScheduledRun(
                contender=contender,
                setting=setting,
                batch_size=size,
                repeat=repeat,
                position=repeat * len(runs) + offset,
            )


def open_folder(folder: Path, method: Method) -> None:
    """Create the folder of a comparison, or check that an existing one has the same options.

    Raises:
        OptionError: The folder contains a comparison with other options.
        FileError: The folder cannot be created, or its comparison cannot be read.
    """
    path = folder / METHOD_FILE
    try:
        for part in ("samples", "parity", "scratch"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise FileError(
            f"{str(folder)!r} cannot be used ({error.strerror}); pass another --out"
        ) from error
    if text is not None:
        found = read_values(Method, text, repr(str(path)))
        if changed := _differences(found, method):
            raise OptionError(
                f"{str(folder)!r} contains a comparison with {changed}; pass another --out, or "
                "remove it"
            )
    replace_text(path, write_values(method))


def _differences(found: Method, method: Method) -> str:
    """Return a description of the options in which two comparisons differ.

    Repeats and contenders may differ: existing results are reused, the others are measured.
    """
    free = ("repeats", "contenders")
    wanted = asdict(method)
    return ", ".join(
        f"{name}={value!r}"
        for name, value in asdict(found).items()
        if name not in free and value != wanted[name]
    )
