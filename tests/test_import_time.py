"""What `import kerash5` and `kerash5 --help` load, and above all what they do not.

A wall clock in a test measures the machine. What makes an import slow is known by name, so a child
process notes every attempt to execute one of those packages, also where it is not installed or its
failure is caught.
"""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "grain",
    "jax",
    "jinja2",
    "keras",
    "matplotlib",
    "orbax",
    "pandas",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "torch",
)

# A finder that comes first and lets `find_spec` succeed: asking whether a package is there costs
# nothing and is allowed, executing it is what counts. The last line of stdout lists the attempts.
WATCH = f"""
import importlib.abc, importlib.machinery, json, sys

attempts = []

class Watch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path, target=None):
        if fullname in {HEAVY!r}:
            return importlib.machinery.ModuleSpec(fullname, self)
    def exec_module(self, module):
        attempts.append(module.__name__)
        raise ImportError(f"{{module.__name__}} was imported")

assert not set({HEAVY!r}) & set(sys.modules)
sys.meta_path.insert(0, Watch())
"""
REPORT = "print(); print(json.dumps(attempts))"

HELP = """
sys.argv = ["kerash5", "--help"]
from kerash5.cli._main import main
try:
    code = main()
except SystemExit as stopped:
    code = stopped.code
assert code in (0, None), code
"""


def run_watched(program: str) -> tuple[list[str], str]:
    """Run `program` in a child; return the heavy packages it tried to execute, and its output."""
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}\n{program}\n{REPORT}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    output, _, attempts = done.stdout.rstrip().rpartition("\n")
    return json.loads(attempts), output


def test_importing_kerash5_loads_nothing_heavy() -> None:
    assert run_watched("import kerash5; kerash5.__version__; dir(kerash5)")[0] == []


def test_help_loads_nothing_heavy_and_names_the_commands() -> None:
    attempts, output = run_watched(HELP)
    assert attempts == []
    assert "kerash5" in output
    assert "fit" in output
    assert "describe" in output


def test_env_asks_for_versions_without_importing_what_it_lists() -> None:
    attempts, output = run_watched("from kerash5.cli._main import main; assert main(['env']) == 0")
    assert attempts == []
    assert "versions:" in output


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("try:\n    import keras\nexcept ImportError:\n    pass", id="import"),
        pytest.param("try:\n    import keras.utils\nexcept ImportError:\n    pass", id="submodule"),
    ],
)
def test_the_watch_sees_an_import_whose_failure_is_caught(program: str) -> None:
    assert run_watched(program)[0] == ["keras"]


def test_the_watch_lets_a_question_pass() -> None:
    question = "import importlib.util; assert importlib.util.find_spec('keras')"
    assert run_watched(question)[0] == []
