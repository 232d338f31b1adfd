"""Repacks a file in small steps, until it is killed or done: SOURCE OUT."""

import sys

import kerash5 as k5
from kerash5.repacking import _repack, _rows

if __name__ == "__main__":
    _rows._BLOCK_BYTES = 20_000  # type: ignore[misc]
    _rows._MAX_MEMORY = 50_000  # type: ignore[misc]
    _repack._COMMIT_SECONDS = 0.0  # type: ignore[misc]
    _repack._COMMIT_SHARE = 1e9  # type: ignore[misc]
    print("begun", flush=True)  # noqa: T201
    k5.repack(sys.argv[1], sys.argv[2], shuffle=True, overwrite=True, chunks=5)
