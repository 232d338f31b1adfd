"""Models by name: from the zoo, the user's code, `keras.applications`, or a file."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import keras

from kerash5 import zoo
from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5._keywords import suggest
from kerash5._options import ModelOptions
from kerash5.feeds._module import H5DataModule
from kerash5.feeds._served import served_by
from kerash5.zoo._compile import make_by_name

APPLICATION: Final = "keras:"
SAVED: Final = ".keras"
_LEARNING_RATE: Final = 1e-3  # of an optimizer that is named without one


def is_of_zoo(name: str) -> bool:
    """Return whether a name is a model of the zoo."""
    return ":" not in name and not name.endswith(SAVED)


def make_model(
    options: ModelOptions, data: H5DataModule, *, decay_steps: int | None = None
) -> keras.Model:
    """Return the compiled model of a name.

    Args:
        options: The model's name and options. A name is one of the zoo; "module:function", called
            with `input_shape` and `num_classes` if it has these parameters, and with the model's
            options; "keras:NAME" of `keras.applications`, with random weights; or the path of a
            .keras file.
        data: The training data.
        decay_steps: The length of the training, for the learning rate of a model of the zoo; None:
            it does not change.

    Raises:
        OptionError: There is no such model, it does not have an option, or it is not compiled and
            no loss can be chosen.
        FileError: The file cannot be loaded.
    """
    if is_of_zoo(options.name):
        model = _make_zoo_model(options, data, decay_steps)
    elif options.name.endswith(SAVED):
        model = _load(options)
    elif options.name.startswith(APPLICATION):
        model = _make_application(options, data)
    else:
        model = _call(options, data)
    return _compiled(model, options, data)


def _make_zoo_model(
    options: ModelOptions, data: H5DataModule, decay_steps: int | None
) -> keras.Model:
    task = zoo.info(options.name).task
    given = dict(options.options)
    if task != "reconstruction":
        given.setdefault("num_classes", _count_classes(options, data, task))
    return zoo.build(
        options.name,
        input_shape=data.input_shape,
        learning_rate=options.learning_rate,
        decay_steps=decay_steps,
        **given,
    )


def _count_classes(options: ModelOptions, data: H5DataModule, task: str) -> int:
    """Return the number of classes of y: labels of rows, or of pixels.

    Raises:
        OptionError: y has no such labels.
    """
    if task == "segmentation":
        return _count_pixel_classes(options, data)
    if data.num_classes is None:
        raise OptionError(
            f"y holds no class labels, which the model {options.name!r} needs; name an integer, "
            "text or one-hot column, or a model of your own: --model.name module:function"
        )
    return data.num_classes


def _count_pixel_classes(options: ModelOptions, data: H5DataModule) -> int:
    """Return the largest class id in the masks, plus 1."""
    served = served_by(data.train)
    tree = served.columns_of("y")
    column = data.train.source.columns[tree] if isinstance(tree, str) else None
    if column is None or column.dtype.kind not in "iub" or len(column.shape) not in (2, 3):
        shape = "" if column is None else f", and not rows of {column.dtype} {column.shape}"
        raise OptionError(
            f"the model {options.name!r} needs a mask as y: class ids in integers, rows of shape "
            f"(height, width) or (height, width, 1){shape}; name such a column: --data.y COLUMN"
        )
    if column.class_names is not None:
        return len(column.class_names)
    largest = served.label_facts(str(tree)).largest
    return 2 if largest is None else max(2, int(largest[0]) + 1)


def _call(options: ModelOptions, data: H5DataModule) -> keras.Model:
    """Call the user's function; its module is also searched in the current folder."""
    module_name, _, function_name = options.name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but an import in it fails
        raise OptionError(
            f"model {options.name!r}: there is no module {error.name!r} in {str(Path.cwd())!r} or "
            "among those installed; give module:function, such as my_models:build"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        named = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise OptionError(
            f"model {options.name!r}: {module_name!r} has no function {function_name!r}"
            f"{suggest(function_name, named) if named else ''}"
        )
    known = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    model = function(**_arguments(options, function, known))
    if not isinstance(model, keras.Model):
        raise OptionError(
            f"model {options.name!r} returned a {type(model).__name__}; it returns a keras.Model"
        )
    return model


def _make_application(options: ModelOptions, data: H5DataModule) -> keras.Model:
    name = options.name.removeprefix(APPLICATION)
    builder = getattr(keras.applications, name, None)
    if not callable(builder):
        names = [each for each in dir(keras.applications) if each[0].isupper()]
        raise OptionError(f"keras.applications has no model {name!r}{suggest(name, names)}")
    if data.num_classes is None:
        raise OptionError(f"y holds no class labels, which {options.name!r} needs")
    if not isinstance(data.input_shape, tuple) or len(data.input_shape) != 3:
        raise OptionError(
            f"{options.name!r} cannot take rows of shape {data.input_shape}: it takes images of "
            "shape (height, width, channels); see Column(shape=)"
        )
    known = {"weights": None, "input_shape": data.input_shape, "classes": data.num_classes}
    try:
        model: keras.Model = builder(**_arguments(options, builder, known))
    except ValueError as error:
        raise OptionError(
            f"{options.name!r} cannot take rows of shape {data.input_shape}: {error}"
        ) from error
    return model


def _load(options: ModelOptions) -> keras.Model:
    path = Path(options.name)
    if not path.exists():
        raise FileMissingError(f"no model file {options.name!r}")
    if options.options:
        raise OptionError(
            f"{options.name!r} is a saved model, which takes no options; got "
            f"{', '.join(options.options)}"
        )
    try:
        model: keras.Model = keras.saving.load_model(path)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise FileError(f"{options.name!r} cannot be loaded as a model ({error})") from error
    return model


def _arguments(
    options: ModelOptions, function: Callable[..., Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments for a function: the known values it accepts, and the options."""
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    for name in options.options:
        if name not in names and not takes_any:
            raise OptionError(
                f"model {options.name!r} has no option {name!r}{suggest(name, names)}"
            )
    given = {name: value for name, value in known.items() if name in names or takes_any}
    return {**given, **options.options}


def _compiled(model: keras.Model, options: ModelOptions, data: H5DataModule) -> keras.Model:
    """Compile a model with the options, or change what a compiled one was compiled with."""
    key = "weighted_metrics" if data.train.plan.drop_last == "pad" else "metrics"
    if options.loss is not None:
        _check_loss(options.loss)
    try:
        if model.compiled:
            _change_compiled(model, options, key, is_ours=is_of_zoo(options.name))
            return model
        metrics = options.metrics
        if metrics is None:
            metrics = ["accuracy"] if data.num_classes is not None else []
        loss = options.loss or _choose_loss(model, data)
        model.compile(_make_optimizer(options), loss, **{key: list(metrics)})
    except (ValueError, TypeError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"the model cannot be compiled: {error}") from error
    return model


def _change_compiled(model: keras.Model, options: ModelOptions, key: str, *, is_ours: bool) -> None:
    """Change the optimizer, learning rate, loss or metrics that are given, and nothing else.

    Args:
        model: A compiled model.
        options: What is given.
        key: "metrics", or "weighted_metrics" if some rows have weight 0.
        is_ours: Whether the model is one of the zoo: then its metrics become those of `key`, and
            its learning rate is set already.
    """
    is_given = options.learning_rate is not None and options.optimizer is None
    if is_given and not is_ours:  # `zoo.build` has set it, with its decay perhaps
        model.optimizer.learning_rate = options.learning_rate
    given = {
        "optimizer": None if options.optimizer is None else _make_optimizer(options),
        "loss": options.loss,
        key: options.metrics,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    is_weighted = key == "weighted_metrics" and (is_ours or key in changed)
    if changed or is_weighted:
        compiled = keras.saving.deserialize_keras_object(model.get_compile_config())
        if is_weighted:
            changed = {key: compiled["metrics"], **changed, "metrics": None}
        model.compile(**{**compiled, "optimizer": model.optimizer, **changed})


def _check_loss(loss: str) -> None:
    try:
        keras.losses.get(loss)
    except ValueError as error:
        names = [each for each in dir(keras.losses) if each[0].isalpha()]
        raise OptionError(f"Keras has no loss {loss!r}{suggest(loss, names)}") from error


def _choose_loss(model: keras.Model, data: H5DataModule) -> str:
    activation = getattr(model.layers[-1] if model.layers else None, "activation", None)
    name = getattr(activation, "__name__", "")
    if data.num_classes is not None and name == "softmax":
        return "sparse_categorical_crossentropy" if _are_ids(data) else "categorical_crossentropy"
    if data.num_classes == 2 and name == "sigmoid":
        return "binary_crossentropy"
    raise OptionError(
        f"model {model.name!r} is not compiled, and its last layer does not say which loss suits "
        "it; compile it, or give one: --loss mse"
    )


def _are_ids(data: H5DataModule) -> bool:
    shape = data.train.source.columns[served_by(data.train).column_names("y")[0]].shape
    return shape in ((), (1,))


def _rate_of(options: ModelOptions) -> float:
    return _LEARNING_RATE if options.learning_rate is None else options.learning_rate


def _make_optimizer(options: ModelOptions) -> keras.optimizers.Optimizer:
    rate: Any = _rate_of(options)
    if options.lr_schedule is not None:
        rate = make_by_name(
            keras.optimizers.schedules,
            options.lr_schedule,
            {"initial_learning_rate": rate, **options.lr_schedule_options},
        )
    arguments = {"learning_rate": rate, **options.optimizer_options}
    made: keras.optimizers.Optimizer = make_by_name(
        keras.optimizers, options.optimizer or "Adam", arguments
    )
    return made
