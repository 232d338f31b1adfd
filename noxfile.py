"""How kerash5 is checked. `nox -l` lists the sessions; plain `nox` runs what a push needs.

One environment per backend is a rule, not a habit: where several are installed, Keras' own parts
import the others. pip fills the environments (not uv): it is pip that finds the CPU build of torch
by `constraints.txt`. Words after `--` go to pytest: `nox -s "tests(jax)" -- -k shuffle -x`.
"""

import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "core", "tests"]

EACH_BACKEND = nox.parametrize(
    "backend", [nox.param(name, id=name, tags=[name]) for name in ("jax", "tensorflow", "torch")]
)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types: ruff's rules and format, mypy strict. No Keras needed."""
    install(session, "dev", "report", "test")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session
def core(session: nox.Session) -> None:
    """Reading, splitting, planning, batches and the report, where Keras is not installed."""
    install(session, "report", "test")
    refuse_keras(session)
    check_wheel(session)
    run_pytest(session, "tests", "--ignore=tests/backend")


@nox.session
@EACH_BACKEND
def tests(session: nox.Session, backend: str) -> None:
    """Everything that imports Keras, on one backend in its own environment."""
    install(session, backend, "grain", "test")
    run_pytest(session, "tests/backend", backend=backend)


@nox.session
def deep(session: nox.Session) -> None:
    """Thousands of new cases for every property, thousands of damaged files, and full sizes."""
    install(session, "report", "test")
    session.env["KERASH5_HYPOTHESIS_PROFILE"] = "deep"
    patient = ("-m", "hypothesis or deep", "-o", "timeout=7200")
    run_pytest(session, "tests", "--ignore=tests/backend", *patient)


def install(session: nox.Session, *extras: str) -> None:
    """Install this checkout with the extras; editable, or `nox -R` would test an older copy."""
    session.install("-c", "constraints.txt", "-e", f".[{','.join(extras)}]")


def run_pytest(session: nox.Session, path: str, *options: str, backend: str | None = None) -> None:
    """Run pytest on `path`, or on the test files that posargs name instead."""
    named = any(argument.startswith("tests/") for argument in session.posargs)
    env = {"KERAS_BACKEND": backend} if backend else {}
    session.run("pytest", *([] if named else [path]), *options, *session.posargs, env=env)


def refuse_keras(session: nox.Session) -> None:
    """Fail when Keras can be imported: the session would prove nothing."""
    reason = "Keras is installed here: remove .nox/core"
    found = "importlib.util.find_spec('keras')"
    session.run("python", "-c", f"import importlib.util, sys; sys.exit({found} and {reason!r})")


def check_wheel(session: nox.Session) -> None:
    """Build the wheel and fail when a file of the package is missing in it."""
    folder = Path(session.create_tmp())
    for old in folder.glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), ".")
    (wheel,) = folder.glob("kerash5-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = (path for path in Path("kerash5").rglob("*") if path.is_file())
    wanted = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    if missing := sorted(wanted - packed):
        session.error(f"{wheel.name} lacks {', '.join(missing)}")
