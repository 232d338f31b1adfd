"""The Python of the pages is executed, block after block, as a reader would type it."""

import traceback
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5.assets import digits_test, digits_train
from tests.markdown import README, ROOT, Block, read_blocks

LOOPS: Final = ROOT / "docs" / "guides" / "loops.md"  # has code for each backend
BACKEND: Final = keras.backend.backend()


def pages() -> list[Any]:
    """Return the pages that have Python in them: two on each backend, the others on one."""
    everywhere = (README, LOOPS)
    found = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            marks=() if page in everywhere else pytest.mark.one_backend,
        )
        for page in found
        if any(block.language == "python" for block in read_blocks(page))
    ]


NUM_ROWS: Final = {"train": 200, "test": 50}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that holds the files README speaks of, real digits but few of them."""
    for name, path in (("train", digits_train()), ("test", digits_test())):
        digits = k5.Source(path, image="image", label="label").read(np.arange(NUM_ROWS[name]))
        for suffix in ("h5", "hdf5"):
            k5.write(tmp_path / f"{name}.{suffix}", image=digits["image"], label=digits["label"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(block: Block, namespace: dict[str, object], page: Path) -> None:
    """Run a block as if the page were a program, so that a traceback shows the page's own lines."""
    try:
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(page)), block.line)
        error.add_note(f"{page.name}, line {line}, in the block that begins at line {block.line}")
        raise


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", pages())
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    for block in read_blocks(page):
        if block.language == "python" and block.backend in ("", BACKEND):
            execute(block, namespace, page)


def test_a_block_that_fails_says_where(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        execute(Block("python", 7, "a = 1\na / 0\n"), {}, tmp_path / "README.md")
    assert caught.value.__notes__ == ["README.md, line 8, in the block that begins at line 7"]
