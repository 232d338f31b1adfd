"""Report what an environment has installed, without Keras: `python -m kerash5.measure._probe`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from kerash5._backends import choose_backend, installed_backends, versions
from kerash5._errors import KerasH5Error
from kerash5._version import __version__


def probe(backend: str) -> dict[str, Any]:
    """Return what a backend would run with in this environment; import no backend. JSON-ready.

    Returns:
        `error`, one sentence, "" if the backend and Keras are installed; `installed`, all installed
        backends; `versions`; `kerash5`.
    """
    try:
        choose_backend(backend)
        error = ""
    except KerasH5Error as reason:
        error = str(reason)
    return {
        "error": error,
        "installed": list(installed_backends()),
        "versions": versions(),
        "kerash5": __version__,
    }


if __name__ == "__main__":
    os.environ.pop("KERAS_BACKEND", None)
    sys.stdout.write(json.dumps(probe(sys.argv[1])))
