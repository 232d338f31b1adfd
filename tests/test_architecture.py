"""Imports point down: the sources are read with `ast`, nothing of kerash5 is imported.

Every import counts, inside functions and under `TYPE_CHECKING` too; only the search for circles
leaves `TYPE_CHECKING` out, because such an import never runs. The second half plants one breach of
each rule in a made-up package: a check that cannot fail proves nothing.
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = "kerash5"
FOLDER: Final = Path(__file__).resolve().parent.parent / PACKAGE

# The folders, and the modules at the root, from the ground up, as docs/design.md draws them. A
# module belongs to the longest name that it begins with; it may import its own folder and what
# stands before that. `kerash5` is the surface, kerash5/__init__.py.
ORDER: Final = (
    "_version",
    "assets",
    "_errors",
    "_warnings",
    "_checks",
    "_display",
    "_keywords",
    "_json",
    "files",
    "_backends",
    "distributed",
    "_run",
    "h5.storage",
    "h5.reading",
    "h5.columns",
    "h5",
    "h5.layouts",
    "order",
    "packing",
    "repacking",
    "_options",
    "_run_data",
    "batches.cache",
    "batches",
    "comparison",
    "report.runs",
    "report",
    "viewing",
    "benchmark",
    "feeds.labels",
    "feeds.passes",
    "feeds.outside",
    "feeds",
    "zoo.models",
    "zoo",
    "train.engines.common",
    "train.state",
    "train.engines.jax",
    "train.engines.tensorflow",
    "train.engines.torch",
    "train.engines",
    "train.loop",
    "train.checkpoints",
    "train.search",
    "train.monitors",
    "train",
    "measure",
    "kerash5",
    "cli",
    "__main__",
)
# ... but for these, an importer and what is closed to it: the order of rows knows no file.
BARRED: Final = (("order", "h5"),)
# Third-party packages that only these modules may import.
OWNERS: Final = {
    "keras": (
        "kerash5.feeds._keras*",
        "kerash5.feeds.labels._keras*",
        "kerash5.measure",
        "kerash5.measure.*",
        "kerash5.zoo",
        "kerash5.zoo.*",
        "kerash5.train",
        "kerash5.train.*",
    ),
    "grain": ("kerash5.feeds._grain",),
}
# Modules that are NumPy and arithmetic, and never touch a file.
PURE: Final = ("kerash5.order", "kerash5.order.*")
MAX_MODULES: Final = 14  # in a folder, beside its __init__
MAX_LINES: Final = 400  # of a module
FILE_MODULES: Final = frozenset(
    {
        *("bz2", "fileinput", "glob", "gzip", "io", "lzma", "mmap", "multiprocessing", "os"),
        *("pathlib", "pickle", "shelve", "shutil", "socket", "sqlite3", "subprocess", "tarfile"),
        *("tempfile", "zipfile"),
    }
)
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
NUMPY_FILE_NAMES: Final = frozenset(
    {
        *("fromfile", "genfromtxt", "load", "loadtxt", "memmap", "open_memmap", "save", "savetxt"),
        *("savez", "savez_compressed", "tofile"),
    }
)


@dataclass(frozen=True, slots=True)
class Import:
    """One import as a source states it."""

    importer: str  # dotted module, "kerash5.h5._layout"; a package stands for its __init__
    target: str  # dotted and absolute: a module of ours, or whatever the source wrote
    line: int
    typing_only: bool  # inside `if TYPE_CHECKING:`
    in_function: bool  # inside a function, and so not run by an import

    def __str__(self) -> str:
        """Return "kerash5.train:7 imports h5py"."""
        return f"{self.importer}:{self.line} imports {self.target}"

    @property
    def is_at_once(self) -> bool:
        """Whether importing the importer runs it."""
        return not self.typing_only and not self.in_function


@dataclass(frozen=True, slots=True)
class Code:
    """The sources of a package by dotted module name; `packages` are those that are an __init__."""

    sources: Mapping[str, str]
    packages: frozenset[str]

    def imports(self) -> list[Import]:
        """Return every import of every module."""
        return [found for module in self.sources for found in self.imports_of(module)]

    def imports_of(self, module: str) -> Iterator[Import]:
        """Yield the imports of one module, wherever they stand in it."""
        tree = ast.parse(self.sources[module])
        typing_only = {id(node) for block in typing_blocks(tree) for node in ast.walk(block)}
        functions = (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))
        later = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            for target in self._targets(module, node):
                line = getattr(node, "lineno", 0)
                yield Import(
                    module,
                    target,
                    line,
                    typing_only=id(node) in typing_only,
                    in_function=id(node) in later,
                )

    def _targets(self, module: str, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = self._absolute(module, node.level, node.module or "")
            return [self._module_or_base(base, alias.name) for alias in node.names]
        if isinstance(node, ast.Call) and (name := imported_by_call(node)):
            level = len(name) - len(name.lstrip("."))
            return [self._absolute(module, level, name.lstrip("."))]
        return []

    def _absolute(self, module: str, level: int, name: str) -> str:
        if level == 0:
            return name
        parts = module.split(".")
        kept = len(parts) - level + (module in self.packages)
        return ".".join([*parts[:kept], *filter(None, [name])])

    def _module_or_base(self, base: str, name: str) -> str:
        # `from kerash5.h5 import _layout` means the module, `... import Layout` the __init__.
        return f"{base}.{name}" if f"{base}.{name}" in self.sources else base


def typing_blocks(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements that only a type checker runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from node.body


def imported_by_call(call: ast.Call) -> str | None:
    """Return what `import_module("...")` or `__import__("...")` names, when it is spelled out."""
    function = ast.unparse(call.func).rpartition(".")[2]
    if function not in {"import_module", "__import__"} or not call.args:
        return None
    name = call.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def read_code(folder: Path) -> Code:
    """Read the sources of the package in `folder`."""
    sources, packages = {}, set()
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        sources[module] = path.read_text(encoding="utf-8")
        if path.name == "__init__.py":
            packages.add(module)
    return Code(sources, frozenset(packages))


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


def is_in(module: str, name: str) -> bool:
    """Say whether a module is, or lies in, what `name` names beneath the package."""
    return f"{module}.".startswith(f"{PACKAGE}.{name}.")


def place_of(module: str, order: Sequence[str]) -> str | None:
    """Return the entry of `order` that a module of ours belongs to."""
    if module == PACKAGE:
        return PACKAGE
    return max((name for name in order if is_in(module, name)), key=len, default=None)


def find_unlisted(code: Code, order: Sequence[str]) -> list[str]:
    """Return the modules that belong to no entry of `order`."""
    return [module for module in code.sources if place_of(module, order) is None]


def find_upward(
    code: Code, order: Sequence[str], barred: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Return the imports that point up, or at what is closed to the importer."""
    rank = {name: number for number, name in enumerate(order)}
    found = []
    for each in code.imports():
        importer, target = place_of(each.importer, order), place_of(each.target, order)
        if importer is None or target is None or not is_ours(each.target):
            continue
        closed = any(is_in(each.importer, a) and is_in(each.target, b) for a, b in barred)
        if closed or rank[target] > rank[importer]:
            found.append(str(each))
    return found


def find_circle(code: Code) -> list[str]:
    """Return the modules of one import circle, or nothing."""
    graph: dict[str, set[str]] = {module: set() for module in code.sources}
    for found in code.imports():
        if not found.typing_only and found.target in graph:
            graph[found.importer].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def find_trespassers(code: Code) -> list[str]:
    """Return the imports of a package by a module that does not own it."""
    return [
        str(found)
        for found in code.imports()
        if (owners := OWNERS.get(found.target.partition(".")[0]))
        and not any(fnmatch(found.importer, owner) for owner in owners)
    ]


def find_impurities(code: Code, pure: Sequence[str]) -> list[str]:
    """Return what the pure modules import or call that could touch a file."""
    modules = [module for module in code.sources if any(fnmatch(module, name) for name in pure)]
    return [
        *(str(each) for module in modules for each in code.imports_of(module) if not is_pure(each)),
        *(each for module in modules for each in file_calls(module, code.sources[module])),
    ]


def is_pure(found: Import) -> bool:
    top = found.target.partition(".")[0]
    if top in {PACKAGE, "numpy"}:
        return True
    return top in sys.stdlib_module_names and top not in FILE_MODULES


def file_calls(module: str, source: str) -> Iterator[str]:
    """Yield where a source speaks of `open` or of NumPy's own file functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id == "open":
            yield f"{module}:{node.lineno} names open"
        elif isinstance(node, ast.Attribute) and node.attr in NUMPY_FILE_NAMES:
            yield f"{module}:{node.lineno} names {ast.unparse(node)}"


def find_full(code: Code, most: int) -> dict[str, int]:
    """Return the folders with more than `most` modules beside their __init__, and how many."""
    sizes: dict[str, int] = {}
    for module in code.sources:
        if module not in code.packages:
            folder = module.rpartition(".")[0]
            sizes[folder] = sizes.get(folder, 0) + 1
    return {folder: size for folder, size in sizes.items() if size > most}


def find_long(code: Code, most: int) -> set[str]:
    """Return the modules of more than `most` lines."""
    return {name for name, source in code.sources.items() if len(source.splitlines()) > most}


def loaded_by(code: Code, module: str) -> set[str]:
    """Return what importing a module imports: ours with all that these import, and packages."""
    loaded, due = set(), [module]
    while due:
        name = due.pop()
        if name in loaded:
            continue
        loaded.add(name)
        due += [name.rpartition(".")[0]] if "." in name else []
        if name in code.sources:
            due += [each.target for each in code.imports_of(name) if each.is_at_once]
    return loaded


# The package as it is


@pytest.fixture(scope="module")
def code() -> Code:
    return read_code(FOLDER)


def test_the_sources_of_the_package_are_found(code: Code) -> None:
    assert "kerash5.h5.storage._layout" in code.sources
    assert {"kerash5", "kerash5.h5", "kerash5.feeds", "kerash5.train"} <= code.packages


def test_every_module_has_a_place_in_the_order(code: Code) -> None:
    assert find_unlisted(code, ORDER) == []


def test_the_imports_inside_the_package_are_seen(code: Code) -> None:
    ours = [found for found in code.imports() if is_ours(found.target)]
    assert len(ours) > len(code.sources)
    assert {found.target for found in ours} - {PACKAGE} <= set(code.sources)


def test_imports_point_down_the_order(code: Code) -> None:
    assert find_upward(code, ORDER, BARRED) == []


def test_no_modules_import_each_other_in_a_circle(code: Code) -> None:
    assert find_circle(code) == []


@pytest.mark.parametrize("package", sorted(OWNERS))
def test_a_package_with_owners_is_used_by_them(code: Code, package: str) -> None:
    assert package in {found.target.partition(".")[0] for found in code.imports()}


def test_only_the_owners_import_keras_and_grain(code: Code) -> None:
    assert find_trespassers(code) == []


def test_the_order_of_rows_is_numpy_alone_and_touches_no_file(code: Code) -> None:
    assert all(any(fnmatch(module, name) for module in code.sources) for name in PURE)
    assert find_impurities(code, PURE) == []


def test_every_folder_is_listed_by_itself(code: Code) -> None:
    assert {package.removeprefix(f"{PACKAGE}.") for package in code.packages} <= set(ORDER)


def test_no_folder_is_full(code: Code) -> None:
    assert find_full(code, MAX_MODULES) == {}


def test_no_module_is_long(code: Code) -> None:
    assert find_long(code, MAX_LINES) == set()


def test_importing_the_package_imports_neither_keras_nor_anything_heavy(code: Code) -> None:
    heavy = {"grain", "h5py", "jax", "keras", "numpy", "rich", "tensorflow", "torch"}
    assert "kerash5._version" in loaded_by(code, PACKAGE)
    assert not loaded_by(code, PACKAGE) & heavy


# The checks themselves: one planted breach each

MADE_UP: Final = ("_errors", "h5.low", "h5", "_plan", "_batches", "report", "feeds", PACKAGE)


def planted(**sources: str) -> Code:
    """Return a made-up package; `h5__layout` stands for kerash5.h5._layout."""
    packages = dict.fromkeys(("kerash5", "kerash5.h5", "kerash5.feeds", "kerash5.report"), "")
    named = {
        f"{PACKAGE}." + module.replace("__", "._"): source for module, source in sources.items()
    }
    return Code({**packages, **named}, frozenset(packages))


UPWARD: Final = {
    "plainly": {"_batches": "import kerash5.feeds"},
    "by name": {"h5": "from kerash5._batches import Batches", "_batches": ""},
    "a module": {"h5": "from kerash5 import _batches", "_batches": ""},
    "the surface": {"_batches": "from kerash5 import H5Dataset"},
    "relatively": {"h5": "from .. import _batches", "_batches": ""},
    "in a function": {"h5": "def f():\n    from kerash5 import _batches", "_batches": ""},
    "for types": {
        "h5": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import kerash5._batches",
        "_batches": "",
    },
    "by a call": {"h5": "importlib.import_module('kerash5._batches')", "_batches": ""},
    "by a relative call": {"h5": "import_module('.._batches', __package__)", "_batches": ""},
    "a plan that knows files": {"_plan": "import kerash5.h5"},
    "a report that imports a feed": {"report": "import kerash5.feeds"},
    "from a lower floor": {"h5.low__layout": "import kerash5.h5._source", "h5__source": ""},
}


@pytest.mark.parametrize("sources", UPWARD.values(), ids=UPWARD)
def test_an_import_that_points_up_is_found(sources: dict[str, str]) -> None:
    assert len(find_upward(planted(**sources), MADE_UP, [("_plan", "h5")])) == 1


def test_imports_that_point_down_or_stay_are_left_alone() -> None:
    code = planted(
        h5="from ._layout import Layout\nfrom kerash5.h5 import _layout, low",
        h5__layout="from kerash5._errors import ColumnError",
        **{"h5.low": ""},
        _errors="",
        _batches="from kerash5.h5 import Layout",
    )
    assert find_upward(code, MADE_UP) == []
    assert find_circle(code) == []


def test_a_module_without_a_place_is_found() -> None:
    assert find_unlisted(planted(_loose=""), MADE_UP) == ["kerash5._loose"]


def test_a_circle_is_found_across_functions() -> None:
    code = planted(
        h5="from kerash5.h5._layout import Layout",
        h5__layout="def f():\n    from kerash5.h5 import Layout",
    )
    assert set(find_circle(code)) == {"kerash5.h5", "kerash5.h5._layout"}


def test_a_circle_through_types_alone_is_none() -> None:
    code = planted(
        h5="from kerash5.h5._layout import Layout",
        h5__layout="import typing\nif typing.TYPE_CHECKING:\n    from kerash5.h5 import Layout",
    )
    assert find_circle(code) == []


def test_a_full_folder_and_a_long_module_are_found() -> None:
    code = planted(h5__a="", h5__b="\n" * 3, feeds__c="")
    assert find_full(code, 1) == {"kerash5.h5": 2}
    assert find_long(code, 2) == {"kerash5.h5._b"}


def test_what_an_import_loads_is_followed_through_packages_and_not_into_functions() -> None:
    code = planted(
        h5="import keras",
        h5__layout="from kerash5._errors import E\ndef f():\n    import torch",
        _errors="import typing\nif typing.TYPE_CHECKING:\n    import jax",
    )
    loaded = loaded_by(code, "kerash5.h5._layout")
    assert loaded >= {"keras", "kerash5", "kerash5.h5", "kerash5._errors"}
    assert not loaded & {"torch", "jax"}


TRESPASSES: Final = {
    "keras in the report": {"report": "import keras"},
    "keras in the grain feed": {"feeds__grain": "import keras.utils"},
    "keras in h5, in a function": {"h5": "def f():\n    from keras import utils"},
    "grain beside its feed": {"feeds__keras": "import grain"},
}


@pytest.mark.parametrize("sources", TRESPASSES.values(), ids=TRESPASSES)
def test_a_trespass_is_found(sources: dict[str, str]) -> None:
    assert len(find_trespassers(planted(**sources))) == 1


def test_the_owners_may_import_what_they_own() -> None:
    code = planted(
        feeds__keras="import keras", feeds__keras_hooks="import keras", feeds__grain="import grain"
    )
    assert find_trespassers(code) == []


@pytest.mark.parametrize(
    "source",
    [
        "import h5py",
        "from pathlib import Path",
        "import os.path",
        "import scipy",
        "rows = open('rows').read()",
        "rows = np.load('rows.npy')",
        "rows.tofile('rows')",
    ],
)
def test_an_impurity_in_the_plan_is_found(source: str) -> None:
    assert len(find_impurities(planted(_plan=source), ["kerash5._plan"])) == 1


def test_numpy_and_arithmetic_are_pure() -> None:
    source = "import math\nimport numpy as np\nfrom kerash5._errors import PlanError"
    assert find_impurities(planted(_plan=source, _errors=""), ["kerash5._plan"]) == []
