"""The list of proven parts, made of the results of a whole run on PyTorch.

Usage: KERAS_BACKEND=torch python -m tests.backend.differential --candidates --out results.jsonl
       python -m tests.backend.differential.proven results.jsonl [...]

A part is proven when a kind that holds it was trained by captured steps, equal to `fit` in every
way that was run. Kinds that were captured and differed although they hold nothing but Keras' own
parts are named: while there is one, the list says too much.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.backend.differential.harness import is_fast

TARGET: Final = Path(__file__).parents[3] / "kerash5/train/engines/torch/_proven.py"
_OF_KERAS: Final = "keras.src."
_HEAD: Final = '''"""Parts of Keras whose captured steps were proven to be Keras' own steps.

Written by tests/backend/differential/proven.py from a run of the differential suite on PyTorch:
each class or function was in a model that was trained by captured steps, equal to `Model.fit` in
every way that was run. Do not edit: run the suite again.
"""

from __future__ import annotations

from typing import Final

'''

Row = Mapping[str, Any]


def find_proven(rows: Iterable[Row]) -> list[str]:
    """Return the paths of proven classes and functions, sorted.

    Args:
        rows: Results as `__main__` writes them.
    """
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["backend"] == "torch" and not row["variant"].startswith("resumed"):
            by_kind[row["subject"], row["kind"]].append(row)
    found: set[str] = set()
    for results in by_kind.values():
        if all(each["verdict"] == "equal" and is_fast(each["engine"]) for each in results):
            found |= {path for path in results[0]["parts"] if path.startswith(_OF_KERAS)}
    return sorted(found)


def find_doubtful(rows: Iterable[Row]) -> list[str]:
    """Return the kinds of nothing but Keras' own parts that were captured and differed."""
    return sorted(
        f"{row['subject']}: {row['kind']}"
        for row in rows
        if row["verdict"] == "different" and is_fast(row["engine"]) and not _has_own_parts(row)
    )


def write_list(proven: Sequence[str]) -> str:
    """Return the source of the module that holds the list."""
    lines = "".join(f'        "{path}",\n' for path in proven)
    return f"{_HEAD}PROVEN: Final = frozenset(\n    {{\n{lines}    }}\n)\n"


def _has_own_parts(row: Row) -> bool:
    return any(not path.startswith(_OF_KERAS) for path in row["parts"])


def main(arguments: Sequence[str]) -> int:
    """Write the list from the files named."""
    lines = [line for name in arguments for line in Path(name).read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in lines]
    for kind in find_doubtful(rows):
        sys.stderr.write(f"captured, of Keras' own parts, and different: {kind}\n")
    proven = find_proven(rows)
    TARGET.write_text(write_list(proven), encoding="utf-8")
    sys.stdout.write(f"{TARGET}: {len(proven)} parts\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
