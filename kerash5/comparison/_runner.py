"""The runner: one fresh process after the other; each result is stored as soon as it is measured.

Results that are already in the folder are not measured again. `_rounds` chooses the order of
processes; `report/_findings` interprets the numbers. Never imports Keras.
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
from kerash5.comparison._rounds import ScheduledRun, open_folder, schedule_runs
from kerash5.files import replace_text


@final
class Runner:
    """One comparison and its folder.

    Args:
        processes: Starts the processes.
        contenders: The contenders; their names are those of the method.
        progress: Displays progress.

    Raises:
        OptionError: The folder contains a comparison with other options.
        FileError: The folder cannot be created, or its comparison cannot be read.
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
        """Measure what is not measured yet and return all results.

        Raises:
            RunError: No contender can make the initial weights, for example because the data do not
                fit.
            KeyboardInterrupt: The comparison was interrupted; finished results are in the folder.
        """
        try:
            with self._progress:
                self._probe()
                self._make_weights()
                self._parities = self._measure_parity()
                for run in schedule_runs(self._method, self._contenders):
                    self._measure(run)
        except BaseException:
            if self._samples:
                self._comparison(is_complete=False).save(self._folder)
            raise
        self._processes.clear()
        comparison = self._comparison(is_complete=True)
        comparison.save(self._folder)
        return comparison

    def _probe(self) -> None:
        """Probe each environment: is the backend installed, and which others share it?"""
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
                f"{', '.join(shared)} ran in an environment with several backends, where "
                "Keras also imports the others; give each backend its own environment with --python"
            )

    def _give_up(self, contender: Contender, status: Status, error: str) -> None:
        self._reasons[contender.name] = (status, error)
        self._progress.say(f"{contender.name} is {status}: {error}")

    def _present(self) -> Iterator[Contender]:
        return (one for one in self._contenders if one.name not in self._reasons)

    def _make_weights(self) -> None:
        """Make the common initial weights with the first contender that can."""
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
        """Return a contender's numbers for parity: from the folder if present, else computed."""
        path = self._folder / "parity" / f"{contender.name}.json"
        versions = self._versions[contender.name]
        if path.exists():
            stored = read_values(_StoredNumbers, path.read_bytes(), str(path))
            if stored.versions == versions:
                return stored.numbers
        self._progress.say(f"parity of {contender.name}")
        numbers = self._processes.compute_parity(contender)
        replace_text(path, write_values(_StoredNumbers(numbers, versions)))
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

    def _measure(self, run: ScheduledRun) -> None:
        identity = run.sample(self._method.model)
        path = self._folder / "samples" / f"{identity.key}.json"
        sample = self._stored_sample(path, run)
        if sample is None:
            sample = self._sample(run, identity)
            if sample.status != "missing":
                replace_text(path, sample.to_json())
        self._samples.append(sample)
        self._progress.show(sample)

    def _stored_sample(self, path: Path, run: ScheduledRun) -> Sample | None:
        """Return the stored sample, unless it failed or package versions have changed."""
        if not path.exists():
            return None
        sample = Sample.from_json(path.read_bytes())
        is_current = sample.environment.get("versions") == self._versions[run.contender.name]
        return sample if sample.status == "ok" and is_current else None

    def _sample(self, run: ScheduledRun, identity: Sample) -> Sample:
        if run.contender.name in self._reasons:
            status, error = self._reasons[run.contender.name]
            return replace(identity, status=status, error=error)
        self._progress.begin(identity)
        try:
            found = self._processes.measure(run)
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
class _StoredNumbers:
    """A contender's numbers for parity, as stored in the folder."""

    numbers: Mapping[str, Numbers]
    versions: Mapping[str, str]


def _why_not_same_version(contender: Contender, version: str) -> str:
    if version == __version__:
        return ""
    return (
        f"{contender.python!r} has kerash5 {version}, but this is {__version__}; install the same "
        "version there"
    )


def _read_clock(folder: Path) -> tuple[str, float]:
    """Return the start time of a comparison, and the seconds it has taken so far."""
    try:
        earlier = Comparison.load(folder)
    except KerasH5Error:
        return datetime.now(UTC).isoformat(timespec="seconds"), 0.0
    return earlier.started, earlier.seconds
