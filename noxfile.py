"""How kerash5 is checked. `nox -l` lists the sessions; plain `nox` runs what a push needs.

One environment per backend is a rule, not a habit: where several are installed, Keras' own parts
import the others. pip fills the environments (not uv): it is pip that finds the CPU build of torch
by `constraints.txt`. Words after `--` go to pytest: `nox -s "tests(jax)" -- -k shuffle -x`.
"""

import atexit
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "core", "tests"]

BACKENDS = ("jax", "tensorflow", "torch")
EACH_BACKEND = nox.parametrize(
    "backend", [nox.param(name, id=name, tags=[name]) for name in BACKENDS]
)
# Without the tags, so that `nox -t torch` stays the tests.
ANY_BACKEND = nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
RESULTS = Path("benchmarks", "results")
MEANWHILE: list[subprocess.Popen[bytes]] = []  # what makes environments in the background
MAX_WORKERS = 4  # of pytest; a backend takes half a gigabyte or more in each


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types: ruff's rules and format, mypy strict. No Keras needed."""
    install(session, "dev", "report", "test")
    if len(sys.argv) == 1:  # plain `nox`, which comes to `tests` later
        make_environments_meanwhile(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")


@nox.session
def core(session: nox.Session) -> None:
    """Reading, splitting, planning, batches and the report, where Keras is not installed."""
    install(session, "report", "test")
    refuse_keras(session)
    check_wheel(session)
    try:
        run_pytest(session, "tests", "--ignore=tests/backend")
    finally:
        for child in MEANWHILE:  # nox looks for an environment before it calls `tests`
            child.wait()


@nox.session
@EACH_BACKEND
def tests(session: nox.Session, backend: str) -> None:
    """Everything that imports Keras, on one backend in its own environment."""
    # What does not depend on the backend is tested on PyTorch alone, the notebook too.
    install(session, backend, "grain", "test", *(["notebook"] if backend == "torch" else []))
    run_pytest(session, "tests/backend", backend=backend)


@nox.session(tags=["deep"])
def deep(session: nox.Session) -> None:
    """Thousands of new cases for every property, thousands of damaged files, and full sizes."""
    install(session, "report", "test")
    session.env["KERASH5_HYPOTHESIS_PROFILE"] = "deep"
    patient = ("-m", "hypothesis or deep", "-o", "timeout=7200")
    run_pytest(session, "tests", "--ignore=tests/backend", *patient)


@nox.session(tags=["bench"])
@ANY_BACKEND
def bench(session: nox.Session, backend: str) -> None:
    """Is a backend no different from itself, is a planted fault found? Words go to the script."""
    install(session, backend, "report")
    folder = result_folder() / "against-itself"
    words = ("--backend", backend, "--out", str(folder), *session.posargs)
    session.run("python", "benchmarks/against_itself.py", *words)


@nox.session(tags=["bench"])
def fastest(session: nox.Session) -> None:
    """All backends in one comparison, each in its own environment; words go to the command."""
    install(session, "report")
    session.run("kerash5", "compare", "--out", str(result_folder() / "compare"), *pythons(session))


@nox.session
def parity(session: nox.Session) -> None:
    """Whether all backends compute the same; nothing is timed that anyone should look at."""
    install(session, "report")
    folder = Path(session.create_tmp()) / "parity"
    shutil.rmtree(folder, ignore_errors=True)  # of the last time: it would go on with that
    few = ("--repeats", "1", "--steps", "1", "--epochs", "1", "--out", str(folder))
    session.run("kerash5", "compare", *few, *pythons(session))
    failed = "[f'{p.contender}, {p.setting}: {p.reason}' for p in found if not p.is_passed]"
    read = f"found = kerash5.Comparison.load({str(folder)!r}).parities"
    session.run("python", "-c", f"import sys, kerash5; {read}; sys.exit('\\n'.join({failed}) or 0)")


@nox.session
def compare(session: nox.Session) -> None:
    """One report of the result files named after `--`, or of all in benchmarks/results."""
    install(session, "report")
    found = sorted(str(path) for path in RESULTS.rglob("comparison*.json"))
    files = session.posargs or found
    if not files:
        session.skip("no result files; nox -s fastest makes some")
    session.run("kerash5", "compare", "--merge", *files, "--out", "runs/compare")


@nox.session
@ANY_BACKEND
def gpu(session: nox.Session, backend: str) -> None:
    """The tests of a backend on a GPU, and its parity with a CPU's bounds; skipped without one."""
    if not has_gpu():
        session.skip("no GPU answers nvidia-smi")
    install(session, "keras", "grain", "test", "report")
    builds = {"jax": "jax[cuda12]", "tensorflow": "tensorflow[and-cuda]", "torch": "torch"}
    session.install(builds[backend])
    run_pytest(session, "tests/backend", backend=backend)
    out = ("--out", str(result_folder() / f"gpu-{backend}"))
    session.run("kerash5", "compare", "--backends", backend, *out)


@nox.session
@ANY_BACKEND
def minimums(session: nox.Session, backend: str) -> None:
    """The tests with the lowest versions that pyproject.toml allows; torch stays as constrained."""
    lowest = lowest_versions("keras", backend, "grain", "report", "test", "fast", "filters")
    held = [word for word in lowest if not word.startswith("torch==")]
    session.install("-c", "constraints.txt", *held, *(["torch"] if backend == "torch" else []))
    session.install("--no-deps", "-e", ".")
    # Old versions that are not held back meet newer ones that deprecate what they use.
    patient = ("-W", "ignore::DeprecationWarning")
    run_pytest(session, "tests/backend", *patient, backend=backend)


@nox.session
@ANY_BACKEND
def keras_next(session: nox.Session, backend: str) -> None:
    """The tests with the newest Keras there is, nightly ones included; told, but may fail."""
    install(session, backend, "grain", "test")
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "keras", silent=True)
    session.install("--pre", "--upgrade", "keras-nightly")
    version = "import keras; print('Keras', keras.__version__)"
    session.run("python", "-c", version, env={"KERAS_BACKEND": backend})
    try:
        run_pytest(session, "tests/backend", backend=backend)
    except nox.command.CommandFailed:
        session.warn(f"the coming Keras breaks something on {backend}: the lines above say what")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site in site/, warnings as errors, and test what the pages promise."""
    install(session, "docs", "report", "test")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    run_pytest(session, "tests/test_docs.py", "tests/test_tables.py")


def pythons(session: nox.Session) -> list[str]:
    """Make an environment for each backend; return them as words of `kerash5 compare`."""
    words = list(session.posargs)
    for backend in BACKENDS:
        folder = Path(session.create_tmp()).resolve() / backend
        python = folder / ("Scripts" if platform.system() == "Windows" else "bin") / "python"
        if not python.exists():
            session.run("python", "-m", "venv", str(folder))
        pip = (str(python), "-m", "pip", "install", "--quiet", "-c", "constraints.txt")
        session.run(*pip, "-e", f".[{backend}]", external=True)
        words += ["--python", f"{backend}={python}"]
    return words


def result_folder() -> Path:
    """Return where today's results of this machine lie."""
    machine = re.sub(r"\W+", "-", f"{platform.system()}-{platform.machine()}").lower()
    return RESULTS / f"{machine}-{datetime.now(UTC):%Y-%m-%d}"


def has_gpu() -> bool:
    """Say whether a GPU answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0  # noqa: S607


def lowest_versions(*extras: str) -> list[str]:
    """Return "name==lowest" for each dependency of the package and of these extras.

    The extras are those that name no other: of `jax` its own line counts, not that of `keras`.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    lowest = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if not requirement.startswith("kerash5[") and "!=" not in marker:
            lowest.append(re.sub(r">=([^,]+).*", r"==\1.*", requirement.strip()))
    return lowest


@nox.session(tags=["deep"])
@ANY_BACKEND
def kills(session: nox.Session, backend: str) -> None:
    """Training killed by SIGKILL at 30 random moments, resumed, and compared to the byte."""
    install(session, backend, "test")
    session.env["KERASH5_KILLS"] = "30"
    run_pytest(session, "tests/backend/train/checkpoints/test_kill.py", backend=backend)


@nox.session(tags=["deep"])
@ANY_BACKEND
def every_case(session: nox.Session, backend: str) -> None:
    """The tests of a backend with those that a push runs on PyTorch alone, or not all cases of."""
    install(session, backend, "grain", "test")
    session.env["KERASH5_EVERY_CASE"] = "1"
    run_pytest(session, "tests/backend", backend=backend)


@nox.session(tags=["deep"])
@ANY_BACKEND
def differential(session: nox.Session, backend: str) -> None:
    """Trainer.fit against Model.fit: every kind in every way, with a table of verdicts.

    Words go to the script, such as a subject; without any, results are appended to a file.
    """
    install(session, backend, "test")
    out = Path(session.create_tmp()) / f"differential-{backend}.jsonl"
    words = session.posargs or ("--all", "--out", str(out))
    env = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    session.run("python", "-m", "tests.backend.differential", *words, env=env)


def make_environments_meanwhile(session: nox.Session) -> None:
    """Install for `tests` in the background; what fails there fails again, and is seen, in `tests`.

    It is mostly waiting and unpacking, beside mypy and the tests of `core`.
    """
    words = (sys.executable, "-m", "nox", "--install-only", "-s", "tests")
    log = Path(session.create_tmp(), "environments.log")
    with log.open("wb") as out:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    atexit.register(child.terminate)
    MEANWHILE.append(child)


def install(session: nox.Session, *extras: str) -> None:
    """Install this checkout with the extras; editable, or `nox -R` would test an older copy.

    Nothing is compiled ahead: the tests import a small share of what is installed.
    """
    session.install("--no-compile", "-c", "constraints.txt", "-e", f".[{','.join(extras)}]")


def run_pytest(session: nox.Session, path: str, *options: str, backend: str | None = None) -> None:
    """Run pytest on `path`, or on the test files that posargs name instead, a worker per core.

    A worker's libraries use one thread, or each would want every core. `-- -n 0` has no workers.
    """
    named = any(argument.startswith("tests/") for argument in session.posargs)
    env = {"OMP_NUM_THREADS": "1"} | ({"KERAS_BACKEND": backend} if backend else {})
    workers = ("-n", str(min(os.cpu_count() or 1, MAX_WORKERS)), "--dist", "worksteal")
    paths = [] if named else [path]
    slowest = "--durations=25"
    session.run("pytest", *workers, slowest, *paths, *options, *session.posargs, env=env)


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
