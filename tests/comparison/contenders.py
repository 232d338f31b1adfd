"""Interpreters that only play a backend: they answer the runner as a child would, at once.

So what the runner does with answers, failures and silence is tested without Keras. What real
children answer is tested in tests/backend.
"""

import sys
from pathlib import Path
from typing import Any

from kerash5._version import __version__
from kerash5.comparison._children import Contender

# Placeholders, not str.format: the program is full of braces.
_PROGRAM = """\
#!PYTHON
import json, os, signal, sys, time
from pathlib import Path

play = PLAY
ledger = Path(LEDGER)
del sys.argv[1]  # -P
if sys.argv[2] == "kerash5.measure._probe":
    if play.get("no_kerash5"):
        sys.exit("No module named kerash5")
    print(json.dumps({
        "error": play.get("missing", ""), "installed": play.get("installed", [sys.argv[3]]),
        "versions": {"keras": play.get("keras", "3.15.1")}, "kerash5": play.get("kerash5", VERSION),
    }))
    sys.exit()
job = json.loads(sys.stdin.read())
with ledger.open("a") as lines:
    lines.write(json.dumps([play["name"], job["job"], job["settings"], job["seed"]]) + "\\n")
fault = play.get(job["job"], "")
if fault == "crash":
    sys.exit("Traceback\\nValueError: it broke")
if fault == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if fault == "hang":
    time.sleep(600)
if fault == "interrupt" and len(ledger.read_text().splitlines()) > play["after"]:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
if fault == "refuse":
    print(json.dumps({"error": "there is no model 'mpl'; did you mean 'mlp'?"}))
    sys.exit()
Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).mkdir(exist_ok=True)
if play.get("caches"):
    (Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / "program").write_text("compiled")
about = {"import_seconds": 1.0, "environment": {"versions": {"keras": play.get("keras", "3.15.1")},
    "omp": os.environ["OMP_NUM_THREADS"], "backend": os.environ["KERAS_BACKEND"]}}
factor = play.get("factor", 1.0)
numbers = {"forward": [[0.5 * factor]], "losses": [2.0] * 5, "adam": [2.0] * 10, "sgd": [2.0] * 64}
seconds = play.get("seconds", 1.0)
if job["job"] == "weights":
    Path(job["weights"]).write_text("weights")
    found = {}
elif job["job"] == "parity":
    found = {setting: numbers for setting in job["settings"]}
else:
    found = {"num_steps": job["num_steps"], "num_rows": job["num_steps"] * job["batch_size"],
        "epoch_seconds": [2.0, seconds, seconds],
        "cached_epoch_seconds": [play.get("cached", seconds / 2)],
        "build_seconds": 0.5, "first_step_seconds": 0.25, "epoch_losses": [1.0, 0.5, 0.25],
        "final_loss": 0.5, "final_accuracy": 0.9, "evaluated_on": "test"}
print(json.dumps({**about, **found}))
"""


def make_contender(folder: Path, name: str, **play: Any) -> Contender:
    """Return a contender whose interpreter plays: see the program above for what it can play."""
    path = folder / f"python-{name}"
    values = {
        "PYTHON": sys.executable,
        "PLAY": repr({"name": name, **play}),
        "LEDGER": repr(str(folder / "ledger")),
        "VERSION": repr(__version__),
    }
    text = _PROGRAM
    for word, value in values.items():
        text = text.replace(word, value)
    path.write_text(text)
    path.chmod(0o755)
    return Contender(name=name, backend=name.partition("-")[0], python=str(path))
