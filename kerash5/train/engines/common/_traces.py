"""Detect whether a resumed fit traces the same steps as an earlier process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import keras


def name_versions(framework: Any, digest: int, devices: str) -> str:  # noqa: ANN401  a module
    """Return the versions under which traces can be compared, as they affect traces.

    Args:
        framework: Module of the backend.
        digest: Version of the digest's input.
        devices: Kinds of devices; Keras uses other operations on a GPU.
    """
    versions = f"{framework.__name__} {framework.__version__}, keras {keras.__version__}"
    return f"{versions}, digest {digest}, {devices}"


@final
class EarlierTraces:
    """Digests of the steps that an earlier process traced, by shapes of batches."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # not compared yet
        self._report: Callable[[str], None] | None = None

    def expect(
        self, traced: Mapping[str, Any], versions: str, report: Callable[[str], None]
    ) -> None:
        """Set what `to_json` returned in an earlier process, if it had the same versions.

        Args:
            traced: Value from a checkpoint; may be empty.
            versions: Versions under which traces can be compared.
            report: Called with a description of the batches whose step differs.
        """
        if traced.get("versions") == versions:
            self._digests, self._report = dict(traced["digests"]), report

    @property
    def is_expected(self) -> bool:
        """Whether there are digests left to compare with."""
        return bool(self._digests)

    def compare(self, shapes: str, digest: str) -> None:
        """Report batches, once, if their step differs from the earlier trace."""
        if self._digests.pop(shapes, digest) != digest and self._report is not None:
            self._report(f"batches of {shapes}")

    def to_json(self, versions: str, digests: Mapping[str, str]) -> dict[str, Any]:
        """Return the digests of this process, and earlier ones of steps not traced yet."""
        return {"versions": versions, "digests": {**self._digests, **digests}}
