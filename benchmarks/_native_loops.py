"""Training loops as one writes them by hand: pure JAX, pure TensorFlow, pure PyTorch. No Keras.

One dispatch per step, Adam, sparse cross-entropy, the mean loss and accuracy kept on the device,
and NumPy batches in. A loop is a function of the batches that waits for the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

Batches = Sequence[tuple[Any, Any]]
Loop = Callable[[Batches], None]

FILTERS: Final = (32, 64, 128)
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def shapes_of(widths: Sequence[int], *, is_convnet: bool) -> list[tuple[int, ...]]:
    """Return the shapes of weights and biases, in turn: an MLP's, or the tutorial's ConvNet's."""
    found: list[tuple[int, ...]] = []
    if is_convnet:
        for before, after in zip((1, *FILTERS), FILTERS, strict=False):
            found += [(3, 3, before, after), (after,)]
        widths = (22 * 22 * FILTERS[-1], 128, 10)
    for before, after in pairwise(widths):
        found += [(before, after), (after,)]
    return found


def values_of(shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Return initial values: Glorot for weights, zeros for biases."""
    rng = np.random.default_rng(0)
    return [
        np.zeros(shape, np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape) * (2 / (np.prod(shape[:-1]) + shape[-1])) ** 0.5).astype(
            np.float32
        )
        for shape in shapes
    ]


def jax_loop(values: Sequence[Any], *, is_convnet: bool) -> Loop:
    """Return the loop in JAX: one jitted step, its state donated."""
    import jax
    import jax.numpy as jnp

    def forward(weights: Any, x: Any) -> Any:
        x, last = x.astype(jnp.float32) / 255, len(weights) - 2
        for place in range(0, len(weights), 2):
            kernel, bias = weights[place], weights[place + 1]
            if kernel.ndim == 4:
                names = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(
                    x, kernel, (1, 1), "VALID", dimension_numbers=names
                )
            else:
                x = x.reshape(len(x), -1) @ kernel
            x = x + bias if place == last else jax.nn.relu(x + bias)
        return x

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        logits = forward(weights, x)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -chosen.mean(), (logits.argmax(1) == y).mean()

    def step(state: Any, x: Any, y: Any) -> Any:
        weights, means, squares, count, sums = state
        found, gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, x, y)
        count = count + 1
        rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        pairs = list(zip(means, squares, gradients, strict=True))
        means = [mean + (grad - mean) * (1 - BETA1) for mean, _, grad in pairs]
        squares = [square + (grad * grad - square) * (1 - BETA2) for _, square, grad in pairs]
        weights = [
            weight - rate * mean / (jnp.sqrt(square) + EPSILON)
            for weight, mean, square in zip(weights, means, squares, strict=True)
        ]
        return weights, means, squares, count, sums + jnp.stack(found)

    compiled = jax.jit(step, donate_argnums=0)
    start = [[jnp.array(value) for value in values]]
    start += [[jnp.zeros_like(value) for value in values] for _ in range(2)]
    held = [(*start, jnp.zeros(()), jnp.zeros(2))]

    def run(batches: Batches) -> None:
        state = held[0]
        for x, y in batches:
            state = compiled(state, x, y)
        held[0] = jax.block_until_ready(state)

    del is_convnet  # the weights say so
    return run


def tensorflow_loop(values: Sequence[Any], *, is_fused: bool) -> Loop:
    """Return the loop in TensorFlow: one `tf.function`, Adam spelled out or as one kernel."""
    import tensorflow as tf

    weights = [tf.Variable(value) for value in values]
    means, squares = ([tf.Variable(tf.zeros_like(value)) for value in values] for _ in range(2))
    count, sums = tf.Variable(0.0), tf.Variable(tf.zeros(2))

    def forward(x: Any) -> Any:
        x, last = tf.cast(x, tf.float32) / 255, len(weights) - 2
        for place in range(0, len(weights), 2):
            kernel, bias = weights[place], weights[place + 1]
            if len(kernel.shape) == 4:
                x = tf.nn.conv2d(x, kernel, 1, "VALID")
            else:
                x = tf.reshape(x, (x.shape[0], kernel.shape[0])) @ kernel
            x = tf.nn.bias_add(x, bias) if place == last else tf.nn.relu(tf.nn.bias_add(x, bias))
        return x

    def update(gradients: Any) -> None:
        count.assign_add(1.0)
        power1, power2 = BETA1**count, BETA2**count
        rate = RATE * tf.sqrt(1 - power2) / (1 - power1)
        for weight, mean, square, grad in zip(weights, means, squares, gradients, strict=True):
            if is_fused:
                tf.raw_ops.ResourceApplyAdam(
                    var=weight.handle,
                    m=mean.handle,
                    v=square.handle,
                    beta1_power=power1,
                    beta2_power=power2,
                    lr=RATE,
                    beta1=BETA1,
                    beta2=BETA2,
                    epsilon=EPSILON,
                    grad=grad,
                )
                continue
            mean.assign_add((grad - mean) * (1 - BETA1))
            square.assign_add((grad * grad - square) * (1 - BETA2))
            weight.assign_sub(rate * mean / (tf.sqrt(square) + EPSILON))

    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            logits = forward(x)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(losses)
        update(tape.gradient(loss, weights))
        right = tf.cast(tf.argmax(logits, 1) == y, tf.float32)
        sums.assign_add(tf.stack([loss, tf.reduce_mean(right)]))

    compiled = tf.function(step)

    def run(batches: Batches) -> None:
        for x, y in batches:
            compiled(x, y)
        sums.numpy()

    return run


def torch_loop(values: Sequence[Any], *, is_fused: bool) -> Loop:
    """Return the loop in PyTorch: a Sequential and `torch.optim.Adam`, as it comes or fused."""
    import torch

    layers: list[Any] = []
    for value in values[::2]:
        if value.ndim == 4:
            layers += [torch.nn.Conv2d(value.shape[2], value.shape[3], 3), torch.nn.ReLU()]
        else:
            layers += [torch.nn.Flatten(), torch.nn.Linear(*value.shape), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    is_convnet = values[0].ndim == 4
    options = {"fused": True} if is_fused else {}
    optimizer = torch.optim.Adam(net.parameters(), RATE, (BETA1, BETA2), EPSILON, **options)
    criterion, sums = torch.nn.CrossEntropyLoss(), torch.zeros(2)

    def run(batches: Batches) -> None:
        for x, y in batches:
            rows, labels = torch.from_numpy(x), torch.from_numpy(y)
            rows = (rows.permute(0, 3, 1, 2) if is_convnet else rows).float() / 255
            logits = net(rows)
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                right = (logits.argmax(1) == labels).float().mean()
                sums.add_(torch.stack([loss.detach(), right]))
        sums.tolist()

    return run
