"""Every optimizer with several arguments, and all that works on gradients or averages weights."""

from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import Part, layers, optimizers, own, stack

# PyTorch's and TensorFlow's own Adam round in another order than Keras' operations do.
ADAM: Final[dict[str, Any]] = {"tolerance": 1e-4}
PLAIN: Final = (
    optimizers.SGD(0.05),
    optimizers.SGD(0.05, momentum=0.9),
    optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    optimizers.RMSprop(0.01),
    optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    optimizers.Adam(0.01),
    optimizers.Adam(0.01, amsgrad=True),
    optimizers.Adam(0.01, beta_1=0.5, beta_2=0.9, epsilon=1e-3),
    optimizers.AdamW(0.01, weight_decay=0.05),
    optimizers.Adamax(0.01),
    optimizers.Adagrad(0.05),
    optimizers.Adagrad(0.05, initial_accumulator_value=0.5),
    optimizers.Adadelta(0.5),
    optimizers.Adadelta(0.5, rho=0.5),
    optimizers.Ftrl(0.05),
    optimizers.Ftrl(0.05, l1_regularization_strength=0.01, l2_regularization_strength=0.01),
    optimizers.Ftrl(0.05, l2_shrinkage_regularization_strength=0.01, beta=0.1),
    optimizers.Lion(0.005),
    optimizers.Lion(0.005, beta_1=0.5),
    optimizers.Adafactor(0.01),
    optimizers.Adafactor(0.01, relative_step=False),
    optimizers.Lamb(0.01),
    optimizers.Muon(0.01),
    optimizers.Muon(0.01, nesterov=False),
    optimizers.LossScaleOptimizer(optimizers.SGD(0.05), initial_scale=128.0),
    optimizers.LossScaleOptimizer(
        optimizers.Adam(0.01), initial_scale=128.0, dynamic_growth_steps=4
    ),
)
# Arguments that every optimizer takes.
SHARED: Final[tuple[dict[str, Any], ...]] = (
    {"clipnorm": 0.1},
    {"global_clipnorm": 0.1},
    {"clipvalue": 0.01},
    {"weight_decay": 0.1},
    {"use_ema": True, "ema_momentum": 0.5},
    {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4},
    {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 4, "use_ema": True, "ema_momentum": 0.5},
    {"loss_scale_factor": 8.0},
)
WITH_SHARED: Final = ("SGD", "Adam", "AdamW", "RMSprop", "Lion", "Adagrad")
DEFAULT: Final = ("SGD(0.05)", "Adam(0.01)", "Adam(0.01, global_clipnorm=0.1)")


def trained_by(optimizer: Any) -> Any:
    """Return a function that builds a model with this optimizer."""
    hidden = layers.Dense(6, activation="tanh")
    return stack(hidden, layers.Dense(5), optimizer=optimizer)


def of(optimizer: Part, **options: Any) -> Kind:
    """Return a kind of this optimizer."""
    name = str(optimizer)
    return Kind(name, trained_by(optimizer), is_default=name in DEFAULT, **ADAM, **options)


class Doubled(keras.optimizers.Adam):
    """An Adam of a user's own."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient * 2 + 0.01, variable, learning_rate)


class SignDescent(keras.optimizers.Optimizer):
    """An optimizer of a user's own from the ground up, with a slot for each variable."""

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.means = [self.add_variable_from_reference(each, name="mean") for each in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        mean = self.means[self._get_variable_index(variable)]
        mean.assign(0.9 * mean + 0.1 * gradient)
        variable.assign_sub(keras.ops.cast(learning_rate, variable.dtype) * keras.ops.sign(mean))


def two_optimizers() -> keras.Model:
    """Build a model whose first layer is trained by an optimizer of its own."""
    model = trained_by(optimizers.SGD(0.05))()
    by_name = {f"{model.layers[0].name}/.*": keras.optimizers.Adam(0.01)}
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.05), by_name)
    model.compile(keras.optimizers.MultiOptimizer(chosen), "sparse_categorical_crossentropy")
    return model


KINDS: Final = (
    *map(of, PLAIN),
    of(optimizers.Nadam(0.01), fault="state outside optimizer.variables never moves"),
    of(optimizers.Nadam(0.01, beta_1=0.5)),
    of(optimizers.ScheduleFreeAdamW(0.01)),
    *(
        of(Part(keras.optimizers, name, (0.01,), dict(options)))
        for name in WITH_SHARED
        for options in SHARED
        if not (name == "AdamW" and "weight_decay" in options)
    ),
    Kind("MultiOptimizer", two_optimizers, **ADAM),
    Kind("own subclass of Adam", trained_by(own(Doubled, 0.01)), **ADAM),
    Kind("own optimizer with slots", trained_by(own(SignDescent, 0.01)), is_default=True),
)
