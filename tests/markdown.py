"""The code blocks of a Markdown page, with the lines they stand on. What tests of pages share."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = ROOT / "README.md"

_FENCED: Final = re.compile(
    r"(?:^<!-- backend: (?P<backend>\w+) -->\n)?"
    r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced code block."""

    language: str  # "" where the fence names none
    line: int  # of its first line of code, from 1, as editors count
    text: str
    backend: str = ""  # the only one it runs on, as a comment above it says


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    return find_blocks(page.read_text(encoding="utf-8"))


def find_blocks(text: str) -> list[Block]:
    """Return the code blocks of a text, in order."""
    return [
        Block(
            found["language"],
            text.count("\n", 0, found.start("text")) + 1,
            found["text"],
            found["backend"] or "",
        )
        for found in _FENCED.finditer(text)
    ]


def without_blocks(text: str) -> str:
    """Return the text with its code blocks taken out."""
    return _FENCED.sub("", text)
