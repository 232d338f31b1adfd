"""The runner: fresh processes, one after the other; every result is kept as soon as it is there.

What is in the folder already is not measured again. Which processes, and in which order, is for
`_rounds` to say, and what the numbers mean for `report/_findings`. Never imports Keras.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from kerash5._errors import KerasH5Error, RunError
from kerash5._json import parse_values, read_values, write_values
from kerash5._version import __version__
from kerash5.comparison._children import Contender
from kerash5.comparison._machine import find_machine
from kerash5.comparison._parity import Numbers, Parity, ParityCheck, Setting, Status, judge_parity
from kerash5.comparison._processes import Processes
from kerash5.comparison._progress import Progress
from kerash5.comparison._results import Comparison, Sample
from kerash5.comparison._rounds import Cell, open_folder, order_cells
from kerash5.files import replace_text


@final
class Runner:
    """One comparison and its folder.

    Args:
        processes: Starts what measures.
        contenders: Who; their names are those of the method.
        progress: Told what happens.

    Raises:
        OptionError: The folder holds a comparison by another method.
        FileError: It cannot be made, or holds something unreadable.
    """

    def __init__(
        self, processes: Processes, contenders: Sequence[Contender], progress: Progress
    ) -> None:
        self._processes = processes
        self._method = processes.method
        self._folder = processes.folder
        self._contenders = contenders
        self._progress = progress
        self._samples: list[Sample] = []
        self._parities: tuple[Parity, ...] = ()
        self._reasons: dict[str, tuple[Status, str]] = {}  # why a contender is not measured
        self._versions: dict[str, dict[str, str]] = {}
        self._notes: list[str] = []
        self._began = time.monotonic()
        open_folder(self._folder, self._method)
        self._started, self._seconds_before = _read_clock(self._folder)

    def run(self) -> Comparison:
        """Measure what is not measured yet; return everything.

        Raises:
            RunError: The data or the model make no sense: nobody could measure anything.
            KeyboardInterrupt: It was stopped; what is done is in the folder.
        """
        try:
            with self._progress:
                self._probe()
                self._make_weights()
                self._parities = self._measure_parity()
                for cell in order_cells(self._method, self._contenders):
                    self._measure(cell)
        except BaseException:
            if self._samples:
                self._comparison(is_complete=False).save(self._folder)
            raise
        self._processes.clear()
        comparison = self._comparison(is_complete=True)
        comparison.save(self._folder)
        return comparison

    def _probe(self) -> None:
        """Find out who is there, and in what company."""
        shared = []
        for contender in self._contenders:
            found = contender.probe()
            error = found["error"] or _why_not_same_version(contender, found["kerash5"])
            self._versions[contender.name] = found.get("versions", {})
            if error:
                self._give_up(contender, "missing", error)
            elif len(found["installed"]) > 1:
                shared.append(contender.name)
        if shared:
            self._notes.append(
                f"{', '.join(shared)} ran in an environment that holds several backends, where "
                "Keras' own parts import the others as well: give each one of its own with --python"
            )

    def _give_up(self, contender: Contender, status: Status, error: str) -> None:
        self._reasons[contender.name] = (status, error)
        self._progress.say(f"{contender.name} is {status}: {error}")

    def _present(self) -> Iterator[Contender]:
        return (one for one in self._contenders if one.name not in self._reasons)

    def _make_weights(self) -> None:
        """Let the first contender that can make the weights that all begin with."""
        errors = []
        for contender in self._present():
            if self._processes.weights.exists():
                return
            self._progress.say(f"initial weights, by {contender.name}")
            try:
                self._processes.make_weights(contender)
            except RunError as error:
                errors.append(error)
        if errors and not self._processes.weights.exists():
            raise errors[0]

    def _measure_parity(self) -> tuple[Parity, ...]:
        found: dict[str, Mapping[str, Numbers]] = {}
        for contender in self._present():
            try:
                found[contender.name] = self._numbers(contender)
            except RunError as error:
                self._give_up(contender, "failed", str(error))
        method = self._method
        judged = judge_parity(found, precision=method.precision, tf32=method.tf32) if found else {}
        return tuple(
            self._parity(contender, setting, *judged.get((contender.name, setting), ("", ())))
            for contender in self._contenders
            for setting in method.settings
        )

    def _numbers(self, contender: Contender) -> Mapping[str, Numbers]:
        """Return what a contender computes, from the folder where it is there already."""
        path = self._folder / "parity" / f"{contender.name}.json"
        versions = self._versions[contender.name]
        if path.exists():
            kept = read_values(_Kept, path.read_bytes(), str(path))
            if kept.versions == versions:
                return kept.numbers
        self._progress.say(f"parity of {contender.name}")
        numbers = self._processes.compute_parity(contender)
        replace_text(path, write_values(_Kept(numbers, versions)))
        return numbers

    def _parity(
        self,
        contender: Contender,
        setting: Setting,
        reference: str,
        checks: tuple[ParityCheck, ...],
    ) -> Parity:
        status, error = self._reasons.get(contender.name, ("ok", ""))
        parity = Parity(
            contender=contender.name,
            backend=contender.backend,
            model=self._method.model,
            batch_size=min(self._method.batch_sizes),
            setting=setting,
            reference=reference,
            checks=checks,
            status=status,
            error=error,
        )
        if status == "ok" and not parity.is_passed:
            self._progress.say(f"{contender.name}, {setting}: {parity.reason}")
        return parity

    def _measure(self, cell: Cell) -> None:
        identity = cell.sample(self._method.model)
        path = self._folder / "samples" / f"{identity.key}.json"
        sample = self._kept(path, cell)
        if sample is None:
            sample = self._sample(cell, identity)
            if sample.status != "missing":
                replace_text(path, sample.to_json())
        self._samples.append(sample)
        self._progress.show(sample)

    def _kept(self, path: Path, cell: Cell) -> Sample | None:
        """Return a sample that is in the folder, unless it failed or versions have changed."""
        if not path.exists():
            return None
        sample = Sample.from_json(path.read_bytes())
        is_current = sample.environment.get("versions") == self._versions[cell.contender.name]
        return sample if sample.status == "ok" and is_current else None

    def _sample(self, cell: Cell, identity: Sample) -> Sample:
        if cell.contender.name in self._reasons:
            status, error = self._reasons[cell.contender.name]
            return replace(identity, status=status, error=error)
        self._progress.begin(identity)
        try:
            found = self._processes.measure(cell)
        except RunError as error:
            return replace(identity, status="failed", error=str(error))
        return parse_values(Sample, {**asdict(identity), **found}, identity.key)

    def _comparison(self, *, is_complete: bool) -> Comparison:
        return Comparison(
            method=self._method,
            samples=tuple(self._samples),
            parities=self._parities,
            machine=find_machine(),
            versions=self._versions,
            notes=tuple(self._notes),
            started=self._started,
            seconds=self._seconds_before + time.monotonic() - self._began,
            is_complete=is_complete,
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a contender computed for parity, as the folder keeps it."""

    numbers: Mapping[str, Numbers]
    versions: Mapping[str, str]


def _why_not_same_version(contender: Contender, version: str) -> str:
    if version == __version__:
        return ""
    return (
        f"{contender.python!r} has kerash5 {version}, and this is {__version__}: install the same "
        "there"
    )


def _read_clock(folder: Path) -> tuple[str, float]:
    """Return when a comparison began, and the seconds it has taken so far."""
    try:
        earlier = Comparison.load(folder)
    except KerasH5Error:
        return datetime.now(UTC).isoformat(timespec="seconds"), 0.0
    return earlier.started, earlier.seconds
