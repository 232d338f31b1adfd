"""The files around the package agree with it: issue forms, workflow, hooks, citation, versions."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import kerash5
from kerash5._backends import BACKENDS
from kerash5.cli._commands import COMMANDS
from tests.markdown import README, ROOT, read_blocks

FORMS: Final = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
EACH_FORM: Final = pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a field of an issue form may say: docs.github.com, "Syntax for GitHub's form schema".
ATTRIBUTES: Final = {
    "markdown": {"value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "input": {"label", "description", "placeholder", "value"},
}


def read_yaml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


# Issue forms


def test_there_are_forms_for_a_bug_a_file_and_a_feature() -> None:
    assert {path.stem for path in FORMS} == {"bug", "odd_file", "feature"}


@EACH_FORM
def test_a_form_is_one_that_github_accepts(form: Path) -> None:
    values = read_yaml(form)
    assert {"name", "description", "body"} <= values.keys()
    assert values.keys() <= {"name", "description", "title", "labels", "body"}
    fields = [field for field in values["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)
    for field in values["body"]:
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["attributes"].keys() <= ATTRIBUTES[field["type"]]


@EACH_FORM
def test_a_form_asks_for_the_environment_and_the_file(form: Path) -> None:
    text = form.read_text(encoding="utf-8")
    assert "kerash5 env" in text
    assert "kerash5 describe FILE" in text
    assert set(re.findall(r"[\"`]kerash5 ([a-z-]+)", text)) <= COMMANDS.keys()


# The workflow and the hooks


def workflow_jobs() -> dict[str, Any]:
    jobs: dict[str, Any] = read_yaml(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    return jobs


def test_the_workflow_runs_the_readmes_test_command_session_by_session() -> None:
    commands = [step["run"] for job in workflow_jobs().values() for step in job["steps"][2:]]
    readme = "\n".join(block.text for block in read_blocks(README))
    for command in commands:
        start, _, session = command.partition(" -s ")
        assert start in readme.splitlines()
        assert session in {"lint", "core", '"tests(${{ matrix.backend }})"'}
    assert len(commands) == 3


def test_the_workflow_has_a_job_for_every_backend_and_python() -> None:
    jobs = workflow_jobs()
    backends = jobs["backend"]["strategy"]["matrix"]["backend"]
    assert set(backends) == set(BACKENDS)
    pythons = jobs["core"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert set(classified_pythons()) <= set(pythons)


def classified_pythons() -> list[str]:
    found = (re.fullmatch(r"Programming .* :: (3\.\d+)", text) for text in PROJECT["classifiers"])
    return [match[1] for match in found if match]


def test_the_hooks_run_the_ruff_of_the_lint_session() -> None:
    dev = PROJECT["optional-dependencies"]["dev"]
    (ruff,) = (line for line in dev if line.startswith("ruff"))
    hooks = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy"]
    assert [hook.get("additional_dependencies") for hook in hooks] == [[ruff], [ruff], None]


# The citation


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == kerash5.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["abstract"].rstrip(".") == PROJECT["description"]


# The table of versions


def lowest_in_project() -> dict[str, str]:
    """Return the lowest version of each package that pyproject.toml allows, by name."""
    lines = [*PROJECT["dependencies"]]
    lines += [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    found = (re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def lowest_on_the_page() -> dict[str, str]:
    """Return the column "lowest" of the table, by the first word of a line."""
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+)[^|]*\| ([\d.]+) \|", page, flags=re.MULTILINE)
    names = {"pytorch": "torch"}
    return {names.get(name.lower(), name.lower()): version for name, version in rows}


def test_the_table_of_versions_states_the_lowest_of_the_project() -> None:
    page, project = lowest_on_the_page(), lowest_in_project()
    assert {"python", "keras", "jax", "tensorflow", "torch", "h5py"} <= page.keys()
    assert f">={page.pop('python')}" == PROJECT["requires-python"]
    assert page == {name: project[name] for name in page}
