"""Names of models: those that ship, those registered in this process, those of other packages.

Listing and describing models imports neither Keras nor the modules that build them. Other packages
name their functions in the entry points of the group "kerash5.zoo".
"""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from kerash5._backends import prepare_keras
from kerash5._errors import OptionError
from kerash5.zoo._catalog import CATALOG, TAKES_IMAGES
from kerash5.zoo._info import TASKS, ModelInfo, Recipe, Task

if TYPE_CHECKING:
    import keras

GROUP: Final = "kerash5.zoo"  # of entry points
_GIVEN: Final = ("input_shape", "num_classes")  # arguments that are no options of a model

Builder = Callable[..., "keras.Model"]
F = TypeVar("F", bound=Builder)


@dataclass(frozen=True, slots=True)
class Registered:
    """A model, and the function that builds it."""

    info: ModelInfo
    build: Builder


_REGISTERED: Final[dict[str, Registered]] = {}  # by `register`, in this process


@overload
def register(function: F, /) -> F: ...
@overload
def register(*, task: Task = ..., recipe: Recipe | None = ...) -> Callable[[F], F]: ...
def register(
    function: F | None = None, /, *, task: Task = "classification", recipe: Recipe | None = None
) -> F | Callable[[F], F]:
    """Register a function as a model of the zoo in this process; its name is the model's.

    The function is called with `input_shape`, with `num_classes` if it has this parameter, and with
    options of its own. It returns a `keras.Model`. One that is not compiled is compiled by the
    recipe; a compiled one is left as it is.

    Args:
        function: The function, where the decorator has no arguments.
        task: As in `ModelInfo`.
        recipe: How the model is trained where nothing else is said; None: `Recipe()`.

    Raises:
        OptionError: There is a model of this name, or the function does not take `input_shape`.

    Examples:
        >>> @register
        ... def linear(input_shape, num_classes):
        ...     layers = [keras.Input(input_shape), keras.layers.Flatten()]
        ...     return keras.Sequential([*layers, keras.layers.Dense(num_classes, "softmax")])
        >>> model = build("linear", input_shape=(28, 28), num_classes=10)
    """
    if function is None:
        return lambda given: _register(given, task, recipe)
    return _register(function, task, recipe)


def _register(function: F, task: Task, recipe: Recipe | None) -> F:
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise OptionError(f"{function!r} has no name; register a function made with def")
    if task not in TASKS:
        raise OptionError(f"task={task!r}; choose {', '.join(map(repr, TASKS))}")
    if name in CATALOG or name in _REGISTERED:
        raise OptionError(
            f"there is a model {name!r} already; give the function another name (to change it in a "
            "session, restart that)"
        )
    _REGISTERED[name] = Registered(_info_of(name, function, task, recipe or Recipe()), function)
    return function


def _info_of(name: str, function: Builder, task: Task, recipe: Recipe) -> ModelInfo:
    """Return what signature and docstring of a function say."""
    parameters = inspect.signature(function).parameters
    if "input_shape" not in parameters and not _takes_any(parameters):
        raise OptionError(f"model {name!r} does not take input_shape; add it to the parameters")
    module = getattr(function, "__module__", "elsewhere")
    about = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
    options = {
        each.name: None if each.default is each.empty else each.default
        for each in parameters.values()
        if each.name not in _GIVEN and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    return ModelInfo(
        name=name,
        purpose=about or f"a model of {module}",
        task=task,
        options=options,
        recipe=recipe,
    )


def names(pattern: str = "*") -> tuple[str, ...]:
    """Return the names that `build` accepts, in alphabetical order.

    Args:
        pattern: Return only names like this, with the wildcards of the shell: "*net*".
    """
    known = {*CATALOG, *_REGISTERED, *_plugins()}
    return tuple(name for name in sorted(known) if fnmatchcase(name, pattern))


def describe(name: str) -> str:
    """Return a one-line description of a model.

    Raises:
        OptionError: There is no such model.
    """
    if name in CATALOG:
        return CATALOG[name][0].purpose
    if name in _REGISTERED:
        return _REGISTERED[name].info.purpose
    return f"a model of the package {_package(_plugin(name))}"


def info(name: str) -> ModelInfo:
    """Return what a model is: paper, purpose, smallest input, options and recipe.

    Of models of other packages, the module that builds them is imported.

    Raises:
        OptionError: There is no such model, or its package cannot be imported.

    Examples:
        >>> info("resnet20").year
        2016
    """
    found = CATALOG[name][0] if name in CATALOG else find(name).info
    return copy.deepcopy(found)


def suited_shape(name: str, row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which rows of `row_shape` enter this model.

    Images without a channel axis get one: (28, 28) becomes (28, 28, 1). Other shapes are unchanged.

    Raises:
        OptionError: There is no such model.
    """
    describe(name)
    needs_axis = name in TAKES_IMAGES and len(row_shape) == 2
    return (*row_shape, 1) if needs_axis else row_shape


def find(name: str) -> Registered:
    """Return a model with the function that builds it; this imports Keras.

    Raises:
        OptionError: There is no such model, or its package cannot be imported.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in CATALOG:
        prepare_keras()
        found, target = CATALOG[name]
        module, function = target.split(":")
        return Registered(found, getattr(import_module(module), function))
    return _load_plugin(name)


def check_options(model: Registered, options: Mapping[str, object]) -> None:
    """Raise if the model does not have an option."""
    parameters = inspect.signature(model.build).parameters
    known = sorted(name for name in model.info.options)
    for option in options:
        if option not in known and not _takes_any(parameters):
            cure = _suggest(option, known) if known else "it has none"
            raise OptionError(f"model {model.info.name!r} has no option {option!r}; {cure}")


def takes_num_classes(model: Registered) -> bool:
    """Return whether the function has the parameter `num_classes`."""
    parameters = inspect.signature(model.build).parameters
    return "num_classes" in parameters or _takes_any(parameters)


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _suggest(word: str, known: Sequence[str]) -> str:
    """Return the known words closest to this one, or else all of them, as a sentence."""
    near = difflib.get_close_matches(word, known)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are {', '.join(map(repr, known))}"


# Models of other packages.


def _plugins() -> dict[str, list[EntryPoint]]:
    """Return the entry points by name, without importing what they name."""
    found: dict[str, list[EntryPoint]] = {}
    for each in entry_points(group=GROUP):
        found.setdefault(each.name, []).append(each)
    return found


def _plugin(name: str) -> EntryPoint:
    """Return the entry point of a name, or raise with the closest names."""
    try:
        given = _plugins()[name]
    except KeyError:
        raise OptionError(f"there is no model {name!r}; {_suggest(name, names())}") from None
    if len({each.value for each in given}) > 1:
        packages = " and ".join(sorted({_package(each) for each in given}))
        raise OptionError(f"the packages {packages} both have a model {name!r}; uninstall one")
    return given[0]


def _load_plugin(name: str) -> Registered:
    plugin = _plugin(name)
    prepare_keras()
    try:
        function: Any = plugin.load()
    except Exception as error:
        raise OptionError(
            f"model {name!r} of the package {_package(plugin)} cannot be imported "
            f"({type(error).__name__}: {error}); update or uninstall it"
        ) from error
    if name in _REGISTERED:  # its module registers it, with a recipe perhaps
        return _REGISTERED[name]
    if not callable(function):
        raise OptionError(
            f"model {name!r} of the package {_package(plugin)} is a {type(function).__name__}; its "
            "entry point must name a function"
        )
    return Registered(_info_of(name, function, "classification", Recipe()), function)


def _package(plugin: EntryPoint) -> str:
    return repr(plugin.dist.name if plugin.dist is not None else plugin.value)
