"""Which processes a comparison is made of, in which order; and the folder that keeps their results.

A round is one repeat: each contender in each setting and batch size, once, in random order. So
whatever the machine does to a round, it does to all of them.
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
class Cell:
    """One process: who, how, in which round, and as which of all."""

    contender: Contender
    setting: Setting
    batch_size: int
    repeat: int
    position: int

    def sample(self, model: str) -> Sample:
        """Return what is known of its sample before it has run."""
        return Sample(
            contender=self.contender.name,
            backend=self.contender.backend,
            model=model,
            batch_size=self.batch_size,
            setting=self.setting,
            repeat=self.repeat,
            position=self.position,
        )


def order_cells(method: Method, contenders: Sequence[Contender]) -> Iterator[Cell]:
    """Yield every process of a comparison, in rounds of random order; a function of the seed."""
    cells = [
        (contender, setting, size)
        for contender in contenders
        for setting in method.settings
        for size in method.batch_sizes
    ]
    for repeat in range(method.repeats):
        order = permutation(len(cells), make_key(method.seed, repeat))
        for place, index in enumerate(order.tolist()):
            contender, setting, size = cells[index]
            yield Cell(
                contender=contender,
                setting=setting,
                batch_size=size,
                repeat=repeat,
                position=repeat * len(cells) + place,
            )


def open_folder(folder: Path, method: Method) -> None:
    """Make the folder of a comparison, or take the one that holds an earlier part of it.

    Raises:
        OptionError: It holds a comparison by another method.
        FileError: It cannot be made, or what is in it cannot be read.
    """
    path = folder / METHOD_FILE
    try:
        for part in ("samples", "parity", "scratch"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise FileError(
            f"{str(folder)!r} cannot be used ({error.strerror}); choose another --out"
        ) from error
    if text is not None:
        found = read_values(Method, text, repr(str(path)))
        if changed := _differences(found, method):
            raise OptionError(
                f"{str(folder)!r} holds a comparison with {changed}; give another --out, or "
                "remove it"
            )
    replace_text(path, write_values(method))


def _differences(found: Method, method: Method) -> str:
    """Say in which values another comparison differs.

    More repeats or other contenders are no matter: what is there is taken, the rest is measured.
    """
    free = ("repeats", "contenders")
    wanted = asdict(method)
    return ", ".join(
        f"{name}={value!r}"
        for name, value in asdict(found).items()
        if name not in free and value != wanted[name]
    )
