"""What the pages promise is there: the test command, links, files, extras, commands, names."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import kerash5
from kerash5.cli import _main
from tests import options_table, words_table
from tests.markdown import README, ROOT, Block, find_blocks, read_blocks, without_blocks

PAGES: Final = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
EACH_PAGE: Final = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)

_LINK: Final = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)|(?:src|href)=\"([^\"]+)\"")
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_REPOSITORY_FILE: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|txt|toml)")
_PLACED_NAME: Final = re.compile(r"`(\w+)` (?:in|of)\s+`([\w./-]+\.py)`")
_MODULE: Final = re.compile(r"\b_\w+\.py\b")
_SESSION: Final = re.compile(r"nox (?:-R )?-s \"?(\w+)")
_EXTRAS: Final = re.compile(r"(?:kerash5|\.)\[([\w,-]+)\]")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


# Commands


def test_the_readme_gives_the_test_command_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script[-1] in list(console_lines(read_blocks(README)))


def find_commands() -> list[tuple[int, list[str]]]:
    """Return each call of kerash5 in the console blocks of README: its line, its words."""
    return [
        (block.line, words)
        for block in read_blocks(README)
        for line in console_lines([block])
        for words in split_commands(line)
    ]


def console_lines(blocks: list[Block]) -> Iterator[str]:
    """Yield what is to be typed: all lines of a block without prompts, else those after `$ `."""
    for block in blocks:
        if block.language == "console":
            lines = block.text.replace("\\\n", " ").splitlines()
            prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            yield from prompted or [line for line in lines if line.strip()]


def split_commands(line: str) -> Iterator[list[str]]:
    """Yield the words after `kerash5` for each call in a shell line, redirections left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += ",:"  # "jax,torch" and "0:64" are one word each to a shell
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set(";&|()"):
            if words and Path(words[0]).name == "kerash5":
                yield words[1 : words.index(">")] if ">" in words else words[1:]
            words = []
        else:
            words.append(token)


COMMANDS: Final = find_commands()


def test_the_readme_shows_the_main_commands() -> None:
    assert {"demo", "fit", "test", "describe"} <= {words[0] for _, words in COMMANDS}


@pytest.mark.parametrize(
    "words",
    [words for _, words in COMMANDS],
    ids=[f"line {line}, {words[0]}" for line, words in COMMANDS],
)
def test_a_kerash5_command_of_the_readme_parses(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(["fit", "--print_config"]) == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)  # for those that read one
    assert parse(words) == 0, f"kerash5 {' '.join(words)}: {capsys.readouterr().err}"


def test_a_wrong_option_does_not_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["fit", "--data.trian", "train.hdf5"]) == 2
    assert "data.trian" in capsys.readouterr().err


def parse(words: list[str]) -> int:
    """Parse the words as the entry point does, without doing the job; return the exit code."""
    if words[0].startswith("-"):
        return _main.main(words)
    try:
        _main._parse(words[0], [word for word in words[1:] if word != "--debug"])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


# Links, files, extras, names


@EACH_PAGE
def test_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = without_blocks(page.read_text(encoding="utf-8"))
    assert [link for link in find_links(text) if not leads_somewhere(page, link)] == []


def find_links(text: str) -> list[str]:
    """Return the targets of all links that do not leave the repository."""
    targets = (found[1] or found[2] for found in _LINK.finditer(text))
    return [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]


def leads_somewhere(page: Path, link: str) -> bool:
    """Return whether the file is there, and the heading after `#` in it."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = _HEADING.findall(without_blocks(target.read_text(encoding="utf-8")))
    return anchor in {slug(heading) for heading in headings}


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@EACH_PAGE
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    spans = _INLINE.findall(without_blocks(page.read_text(encoding="utf-8")))
    names = [span for span in spans if _REPOSITORY_FILE.fullmatch(span)]
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_the_modules_that_the_design_draws_are_there() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = {name for block in find_blocks(page) for name in _MODULE.findall(block.text)}
    assert len(drawn) > 50
    assert drawn - {path.name for path in (ROOT / "kerash5").rglob("*.py")} == set()


@EACH_PAGE
def test_names_are_in_the_modules_where_a_page_says_they_are(page: Path) -> None:
    placed = _PLACED_NAME.findall(page.read_text(encoding="utf-8"))
    assert [
        (name, file)
        for name, file in placed
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text(encoding="utf-8"))
    ] == []


def test_the_page_for_contributors_says_where_names_are() -> None:
    placed = _PLACED_NAME.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(placed) >= 6


@EACH_PAGE
def test_the_nox_sessions_of_a_page_exist(page: Path) -> None:
    assert set(_SESSION.findall(page.read_text(encoding="utf-8"))) - SESSIONS == set()


def find_sessions() -> set[str]:
    """Return the names of the functions in the noxfile that are sessions."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {
        function.name
        for function in functions
        if any(ast.unparse(each).startswith("nox.session") for each in function.decorator_list)
    }


SESSIONS: Final = find_sessions()


def test_the_sessions_of_the_noxfile_are_found() -> None:
    assert {"lint", "core", "tests", "deep", "minimums"} <= SESSIONS


def test_every_extra_that_the_readme_names_can_be_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = _EXTRAS.findall(README.read_text(encoding="utf-8"))
    extras = {extra for found in named for extra in found.split(",")}
    assert extras
    assert extras - settings["project"]["optional-dependencies"].keys() == set()


@pytest.mark.parametrize("name", kerash5.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    assert re.search(rf"(?<!\w){name}(?!\w)", DOCUMENTED_CODE)


# The source is read, because these classes import Keras.
CLASSES: Final = {"H5Dataset": "feeds/_keras.py", "Trainer": "train/_trainer.py"}


def test_the_tables_of_options_are_as_declared() -> None:
    text = options_table.PAGE.read_text(encoding="utf-8")
    assert options_table.with_tables(text) == text, "run python -m tests.options_table"


def test_the_words_of_other_libraries_are_those_of_the_errors() -> None:
    text = words_table.PAGE.read_text(encoding="utf-8")
    assert words_table.with_tables(text) == text, "run python -m tests.words_table"


def test_every_page_is_found_from_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("example-report/")} - set(
        re.findall(r": (\S+\.md)", menu)
    ) == set()


def test_every_argument_of_a_data_set_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(_INLINE.findall(text.partition("### `H5Dataset`")[2].partition("\n##")[0]))
    made = methods_of("H5Dataset")["__init__"]
    docstring = class_of("H5Dataset").body[0]
    assert [one for one in arguments_of(made) if one not in named] == []
    told = ast.unparse(docstring)
    names = [one.partition("=")[0] for one in arguments_of(made)]
    assert [one for one in names if not re.search(rf"[ ,]{one}[,:]", told)] == []


def test_every_member_of_a_data_set_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    section = text.partition("### `H5Dataset`")[2].partition("\n##")[0]
    named = set(re.findall(r"\w+", " ".join(_INLINE.findall(section))))
    public = {name for name in methods_of("H5Dataset") if not name.startswith("_")}
    assert sorted(public - named) == []


def test_every_method_of_a_trainer_is_documented_with_its_arguments() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(_INLINE.findall(text.partition("### `Trainer`")[2].partition("\n##")[0]))
    methods = methods_of("Trainer")
    public = {one: method for one, method in methods.items() if is_called(one, method)}
    assert sorted(public) == sorted(
        code.partition("(")[0] for code in named if re.match(r"\w+\(model", code)
    )
    for method in public.values():
        assert signature_of(method) in named


def class_of(name: str) -> ast.ClassDef:
    source = (ROOT / "kerash5" / CLASSES[name]).read_text(encoding="utf-8")
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return next(node for node in classes if node.name == name)


def methods_of(name: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in class_of(name).body if isinstance(node, ast.FunctionDef)}


def is_called(name: str, method: ast.FunctionDef) -> bool:
    """Return whether it is a public method that takes a model."""
    return not name.startswith("_") and "model" in [one.arg for one in method.args.args]


def arguments_of(method: ast.FunctionDef) -> list[str]:
    """Return "name" or "name=default" for each argument but self."""
    given = method.args
    first: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    pairs = [
        *zip(given.args, [*first, *given.defaults], strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    return [
        argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"
        for argument, default in pairs
        if argument.arg != "self"
    ]


def signature_of(method: ast.FunctionDef) -> str:
    count = len(method.args.args) - 1
    arguments = arguments_of(method)
    keywords = ["*", *arguments[count:]] if method.args.kwonlyargs else []
    return f"{method.name}({', '.join([*arguments[:count], *keywords])})"


def code_of(page: Path) -> str:
    """Return all that stands as code on a page, so that `write` is not found in prose."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.text for block in find_blocks(text)]
    return "\n".join([*blocks, *_INLINE.findall(without_blocks(text))])


DOCUMENTED_CODE: Final = "\n".join(
    code_of(page) for page in PAGES if page == README or page.parent.name == "docs"
)


# The reading of pages itself


PAGE: Final = """\
# A page

See [there](b.md#its-end), <a href="c.md">c</a> and [the site](https://example.org).

```console
$ cd data && kerash5 describe 'a b.h5' > out.txt; ./bin/kerash5 env  # a comment
an answer
$ kerash5 fit \\
    --data.x image
```

```python
f()
```
"""


def test_blocks_come_with_their_lines() -> None:
    assert [(block.language, block.line) for block in find_blocks(PAGE)] == [
        ("console", 6),
        ("python", 13),
    ]
    assert find_blocks(PAGE)[1].text == "f()\n"
    assert "kerash5" not in without_blocks(PAGE)


def test_commands_are_found_between_others() -> None:
    lines = list(console_lines(find_blocks(PAGE)))
    assert [words for line in lines for words in split_commands(line)] == [
        ["describe", "a b.h5"],
        ["env"],
        ["fit", "--data.x", "image"],
    ]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    page.write_text(PAGE)
    other.write_text("## Its end\n")
    assert find_links(PAGE) == ["b.md#its-end", "c.md"]
    links = ["b.md#its-end", "b.md", "#a-page", "c.md", "b.md#its-start"]
    assert [leads_somewhere(page, link) for link in links] == [True, True, True, False, False]
