"""Is a backend found to be no different from itself?

Ten comparisons of one backend with itself, each of fresh processes in random rounds, as `kerash5
compare` makes them. The verdict must be "no difference" in at least nine: intervals of 95 % are
wrong once in twenty. One more has a fault: an input that sleeps, so that a step takes 30 % longer.
It must be found, and blamed on waiting for input.

    python benchmarks/against_itself.py --backend torch --out runs/against-itself
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kerash5.comparison._children import Contender
from kerash5.comparison._compare import describe_files, find_files
from kerash5.comparison._machine import count_cores, find_machine
from kerash5.comparison._processes import Processes
from kerash5.comparison._progress import Progress
from kerash5.comparison._results import Comparison, Method
from kerash5.comparison._runner import Runner
from kerash5.report._findings import find_tables, wait_fraction_of_difference

LEAST_OF_TEN = 0.9
SLOWDOWN = 1.3
SLEEP_SECONDS = 0.02


def compare_with_itself(
    arguments: argparse.Namespace, number: int, *, sleeps: tuple[float, float] = (0.0, 0.0)
) -> Comparison:
    """Compare two contenders that are the same but for what they sleep for each batch."""
    names = (arguments.backend, f"{arguments.backend}-2")
    contenders = [
        Contender(name=name, backend=arguments.backend, sleep_seconds=seconds)
        for name, seconds in zip(names, sleeps, strict=True)
    ]
    files = find_files(None, None, "image", "label")
    method = Method(
        model=arguments.model,
        contenders=names,
        batch_sizes=(arguments.batch_size,),
        settings=(arguments.setting,),
        repeats=arguments.repeats,
        num_steps=arguments.steps,
        num_epochs=arguments.epochs,
        seed=number,
        threads=arguments.threads,
        precision="float32",
        tf32=False,
        data=describe_files(files),
    )
    folder = Path(arguments.out) / arguments.backend / f"{number}{'-fault' if any(sleeps) else ''}"
    processes = Processes(
        method=method,
        files=files,
        folder=folder,
        timeout_seconds=600,
        reading_threads=0 if any(sleeps) else None,
    )
    return Runner(processes, contenders, Progress(method)).run()


def judge(comparison: Comparison) -> dict[str, Any]:
    """Return what the report says of the two."""
    (table,) = find_tables(comparison)
    first, second = (row for row in table.rows)
    return {
        "standings": [first.standing, second.standing],
        "relative": [second.relative.value, second.relative.low, second.relative.high],
        "wait_share_of_difference": wait_fraction_of_difference(second, first),
        "load": [sample.load_before for sample in comparison.samples],
    }


def main() -> int:
    """Run all, print a line for each, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--setting", default="plain")
    parser.add_argument("--comparisons", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--out", default="runs/against-itself")
    arguments = parser.parse_args()
    found = []
    for number in range(arguments.comparisons):
        found.append(judge(compare_with_itself(arguments, number)))
        print(json.dumps(found[-1]), flush=True)
    sleeps = (SLEEP_SECONDS, SLEEP_SECONDS * SLOWDOWN)
    fault = judge(compare_with_itself(arguments, 0, sleeps=sleeps))
    print(json.dumps({"fault": fault}), flush=True)
    same = sum("slower" not in one["standings"] for one in found)
    is_found = "slower" in fault["standings"]
    result = {
        "backend": arguments.backend,
        "options": {name: value for name, value in vars(arguments).items() if name != "out"},
        "machine": asdict(find_machine()),
        "no_difference": same,
        "comparisons": found,
        "fault": fault,
    }
    path = Path(arguments.out) / f"{arguments.backend}.json"
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"{arguments.backend}: no difference in {same} of {len(found)}; fault found: {is_found}")
    return int(same < LEAST_OF_TEN * len(found) or not is_found)


if __name__ == "__main__":
    sys.exit(main())
