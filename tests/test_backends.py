"""Backends: which one, and what to install where there is none."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from kerash5._backends import (
    choose_backend,
    environment,
    installed_backends,
    use_backend,
    versions,
)
from kerash5._errors import BackendError, OptionError

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that makes it seem that exactly these packages are installed."""

    def pretend(*names: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: object() if name in names else None
        )

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return pretend


def test_the_installed_backends_come_in_alphabetical_order(install: Install) -> None:
    install("torch", "jax", "keras", "numpy")
    assert installed_backends() == ("jax", "torch")


def test_the_backend_asked_for_is_chosen(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("jax", "tensorflow", "torch", "keras")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert choose_backend("torch") == "torch"


def test_unasked_the_environment_decides_and_then_what_is_installed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tensorflow", "torch", "keras")
    assert choose_backend() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert choose_backend() == "torch"


def test_a_backend_that_is_not_installed_is_named_with_its_cure(install: Install) -> None:
    install("jax", "keras")
    with pytest.raises(BackendError, match=r"pip install 'kerash5\[torch\]'; installed: jax$"):
        choose_backend("torch")


def test_no_backend_at_all_says_what_to_install(install: Install) -> None:
    install("keras")
    with pytest.raises(BackendError, match=r"no backend is installed.*'kerash5\[jax\]'") as caught:
        choose_backend()
    assert isinstance(caught.value, ImportError)


def test_a_backend_without_keras_says_what_to_install(install: Install) -> None:
    install("torch")
    with pytest.raises(
        BackendError, match=r"Keras is not installed: pip install 'kerash5\[torch\]'"
    ):
        choose_backend()


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_wrong_name_lists_the_right_ones(
    install: Install, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    install("jax", "keras")
    if by == "environment":
        monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(
        OptionError, match="no backend 'theano'; choose jax, tensorflow, torch"
    ) as caught:
        choose_backend("theano" if by == "argument" else None)
    assert isinstance(caught.value, ValueError)


def test_using_a_backend_tells_keras_and_keeps_the_users_log_level(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("jax", "torch", "keras")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert use_backend("torch") == "torch"
    assert os.environ["KERAS_BACKEND"] == "torch"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_an_imported_keras_cannot_change_its_backend(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("jax", "torch", "keras")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras: Any = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert use_backend("jax") == "jax"
    with pytest.raises(BackendError, match=r"runs on 'jax' .* cannot change to 'torch'"):
        use_backend("torch")
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_versions_and_environment_are_json_and_name_what_shapes_a_result() -> None:
    assert versions()["numpy"]
    found = json.loads(json.dumps(environment()))
    assert found["cores"] >= 1
    assert found["processor"]
    assert found["versions"] == versions()


def test_a_nightly_keras_is_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "keras-nightly":
            raise metadata.PackageNotFoundError
        return "3.99.0.dev0"

    monkeypatch.setattr(metadata, "version", version)
    assert versions() == {"keras": "3.99.0.dev0"}


# Which process of a group this is


def test_the_environment_names_settings_of_backends_and_of_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "somewhere")
    settings = environment()["settings"]
    assert settings["TF_NUM_INTRAOP_THREADS"] == "2"
    assert "TF_CLI_CONFIG_FILE" not in settings
