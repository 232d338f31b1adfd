"""What tells whether a resumed fit traces the steps that an earlier process has traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import keras


def name_versions(framework: Any, digest: int, devices: str) -> str:  # noqa: ANN401  a module
    """Return between which traces can be compared: other versions trace the same step differently.

    Args:
        framework: The module of the backend.
        digest: The version of what is fed to a digest.
        devices: Which kinds there are: Keras takes other operations on a GPU.
    """
    versions = f"{framework.__name__} {framework.__version__}, keras {keras.__version__}"
    return f"{versions}, digest {digest}, {devices}"


@final
class EarlierTraces:
    """Digests of the steps that an earlier process has traced, by the shapes of batches."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # that nothing was compared with yet
        self._report: Callable[[str], None] | None = None

    def expect(
        self, traced: Mapping[str, Any], versions: str, report: Callable[[str], None]
    ) -> None:
        """Take what `to_json` returned in an earlier process, if it had the same versions.

        Args:
            traced: From a checkpoint; may be empty.
            versions: Between which traces can be compared.
            report: Called with words for the batches whose step is another one.
        """
        if traced.get("versions") == versions:
            self._digests, self._report = dict(traced["digests"]), report

    @property
    def is_expected(self) -> bool:
        """Whether there is anything left to compare with."""
        return bool(self._digests)

    def compare(self, shapes: str, digest: str) -> None:
        """Report batches whose step was traced as another one, once."""
        if self._digests.pop(shapes, digest) != digest and self._report is not None:
            self._report(f"batches of {shapes}")

    def to_json(self, versions: str, digests: Mapping[str, str]) -> dict[str, Any]:
        """Return the digests of this process, and those of steps that it has not traced yet."""
        return {"versions": versions, "digests": {**self._digests, **digests}}
