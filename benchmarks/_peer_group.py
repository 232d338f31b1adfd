"""The other loaders that are measured together: those that run, and why the others do not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import final

from _harness import Outcome
from _peer_process import PEERS, PeerError, PeerProcess


@final
@dataclass(slots=True)
class Peers:
    """The processes of the other loaders, and why some are not measured."""

    folder: Path
    pythons: dict[str, str]
    wanted: Sequence[str]
    seconds: float
    running: dict[str, PeerProcess] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    epochs: Iterator[int] = field(default_factory=count)

    def convert(self) -> Iterator[Outcome]:
        """Start all, and let each write its own format."""
        for name in self.wanted:
            before = self._bytes()
            try:
                process = self._start(name)
            except PeerError as error:
                self.skip(name, error)
                continue
            try:
                answer = process.ask("convert")
            except PeerError as error:
                self.skip(name, error)
                process.close()
                continue
            self.running[name] = process
            versions = ", ".join(f"{key} {value}" for key, value in answer["versions"].items())
            print(f"{name}: {versions}, {answer['seconds']:.1f} s", file=sys.stderr)
            if not PEERS[name].reads_hdf5:
                megabytes = [(self._bytes() - before) / 1e6]
                one = Outcome(case=f"{name} ({versions})", way="on disk", part="conversion")
                yield replace(one, unit="MB", values=megabytes)
                yield replace(one, way="to convert", unit="s", values=[answer["seconds"]])

    def open(self, path: Path, *, own_formats: bool) -> dict[str, Callable[[], float]]:
        """Return how to measure those that read this file, or else have a format of their own."""
        ways: dict[str, Callable[[], float]] = {}
        for name in self.running:
            if PEERS[name].reads_hdf5 == own_formats:
                continue
            try:
                if self.skipped.pop(name, None):  # it failed on another file, and may be stuck
                    self.running[name].close()
                    self.running[name] = self._start(name)
                self.running[name].ask("open", path=str(path))
            except PeerError as error:
                self.skip(name, error)
                continue
            ways[name] = lambda name=name: self.speed(name)  # type: ignore[misc]
        return ways

    def _start(self, name: str) -> PeerProcess:
        python = self.pythons.get(PEERS[name].runs_in, sys.executable)
        return PeerProcess(name, python, self.folder)

    def speed(self, name: str) -> float:
        """Return rows per second, over as much of an epoch as time allows; 0 where it fails."""
        if name in self.skipped:
            return 0
        try:
            found = self.running[name].ask(
                "epoch", epoch=next(self.epochs), seconds=self.seconds, most_seconds=60
            )
        except PeerError as error:
            self.skip(name, error)
            return 0
        return float(found["rows"] / found["seconds"])

    def skip(self, name: str, error: PeerError) -> None:
        """Note that a peer cannot be measured."""
        self.skipped[name] = str(error)
        print(f"{name}: {error}", file=sys.stderr)

    def close(self) -> None:
        """End all processes."""
        for process in self.running.values():
            process.close()

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
