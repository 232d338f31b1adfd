"""Comparisons made up from a seed: known speeds, and noise as machines make it.

The logarithm of a process's speed is what its contender's is, plus what the machine did to the
round (a random walk and a trend), plus noise of its own: normal, heavy-tailed (Student's t with 2.5
degrees of freedom, whose variance is barely finite), or normal with one process in ten up to 40 %
slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from kerash5.comparison._machine import Machine
from kerash5.comparison._parity import Parity, ParityCheck, Setting
from kerash5.comparison._results import Comparison, Method, Sample

Noise = Literal["normal", "heavy", "slow"]

NOISES: Final[tuple[Noise, ...]] = ("normal", "heavy", "slow")
SPEEDS: Final = {"jax": 400.0, "tensorflow": 1350.0, "torch": 950.0}
NUM_STEPS: Final = 100
ENGINES: Final[dict[Setting, str]] = {
    "plain": "Keras' own fit",
    "tuned": "JAX, 16 compiled steps per dispatch",
}


def log_noise(
    noise: Noise, shape: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return noise of log speeds, shape (experiments, contenders, rounds)."""
    experiments, _, rounds = shape
    own = {
        "normal": lambda: 0.04 * rng.standard_normal(shape),
        "heavy": lambda: 0.03 * rng.standard_t(2.5, shape),
        "slow": lambda: (
            0.03 * rng.standard_normal(shape)
            + np.where(rng.random(shape) < 0.1, np.log(rng.uniform(0.6, 0.9, shape)), 0.0)
        ),
    }[noise]()
    walk = np.cumsum(0.03 * rng.standard_normal((experiments, 1, rounds)), axis=-1)
    trend = 0.1 * rng.standard_normal((experiments, 1, 1)) * np.linspace(0, 1, rounds)
    return np.asarray(own + walk + trend)


def make_comparison(
    speeds: Mapping[str, float] = SPEEDS,
    *,
    repeats: int = 5,
    seed: int = 0,
    noise: Noise = "normal",
    settings: tuple[Setting, ...] = ("plain",),
    batch_sizes: tuple[int, ...] = (50,),
    tuning: float = 1.3,
    waits: Mapping[str, float] | None = None,
) -> Comparison:
    """Return a complete comparison in which all went well.

    Args:
        speeds: Rows per second by contender, plain.
        repeats: Rounds.
        seed: Of the noise.
        noise: Its kind.
        settings: As in `Method`.
        batch_sizes: As in `Method`.
        tuning: How many times faster "tuned" is.
        waits: Seconds a step waits for input, by contender; 1 % of the step where not given.
    """
    rng = np.random.default_rng(seed)
    method = Method(
        model="convnet",
        contenders=tuple(speeds),
        batch_sizes=batch_sizes,
        settings=settings,
        repeats=repeats,
        num_steps=NUM_STEPS,
        num_epochs=3,
        seed=seed,
        threads=2,
        precision="float32",
        tf32=False,
        data="digits-train.hdf5: 5,000 rows of (28, 28) uint8",
    )
    samples = []
    for batch_size in batch_sizes:
        for setting in settings:
            errors = log_noise(noise, (1, len(speeds), repeats), rng)[0]
            for index, (contender, speed) in enumerate(speeds.items()):
                wait = (waits or {}).get(contender, 0.01 * batch_size / speed)
                factor = (tuning if setting == "tuned" else 1.0) * (batch_size / 50) ** 0.2
                for repeat in range(repeats):
                    step = batch_size / (speed * factor * np.exp(errors[index, repeat]))
                    samples.append(
                        _sample(
                            contender,
                            setting,
                            batch_size,
                            repeat,
                            step=float(step),
                            wait=wait,
                            rng=rng,
                        )
                    )
    order = rng.permutation(len(samples))
    placed = (
        replace(sample, position=int(place)) for sample, place in zip(samples, order, strict=True)
    )
    return Comparison(
        method=method,
        samples=tuple(sorted(placed, key=lambda sample: sample.position)),
        parities=tuple(
            make_parity(contender, setting, batch_size=min(batch_sizes))
            for contender in speeds
            for setting in settings
        ),
        machine=Machine(
            processor="Example CPU @ 2.50GHz",
            cores=2,
            memory_bytes=24 * 2**30,
            gpus=(),
            platform="Linux",
            python="3.11.7",
            commit="0123abc",
        ),
        versions={name: {"keras": "3.15.1", _backend(name): "1.2.3"} for name in speeds},
        notes=("The two cores were shared with other work.",),
        started="2026-11-22T10:00:00+00:00",
        seconds=1234.5,
    )


def make_parity(
    contender: str,
    setting: Setting = "plain",
    *,
    batch_size: int = 50,
    forward: float = 1e-7,
    error: str = "",
) -> Parity:
    """Return a parity that passes, unless told otherwise."""
    return Parity(
        contender=contender,
        backend=_backend(contender),
        model="convnet",
        batch_size=batch_size,
        setting=setting,
        reference="the median of all backends",
        checks=()
        if error
        else (
            ParityCheck(name="forward", difference=forward, bound=1e-5),
            ParityCheck(name="losses", difference=2e-6, bound=1e-5),
            ParityCheck(name="adam", difference=3e-4, bound=1e-3),
            ParityCheck(name="sgd", difference=4e-3, bound=1e-2),
        ),
        status="failed" if error else "ok",
        error=error,
    )


def spoil(comparison: Comparison, contender: str, **changes: object) -> Comparison:
    """Return the comparison with these fields changed in every sample of one contender."""
    return replace(
        comparison,
        samples=tuple(
            replace(sample, **changes) if sample.contender == contender else sample  # type: ignore[arg-type]  # fields by name
            for sample in comparison.samples
        ),
    )


def _backend(contender: str) -> str:
    return contender.partition("-")[0]


def _sample(
    contender: str,
    setting: Setting,
    batch_size: int,
    repeat: int,
    *,
    step: float,
    wait: float,
    rng: np.random.Generator,
) -> Sample:
    epoch, cached = step + wait, step
    jitter = np.exp(0.01 * rng.standard_normal(7))
    compile_seconds = {"jax": 2.5, "tensorflow": 1.2}.get(_backend(contender), 0.2)
    compile_seconds *= 1.0 if repeat == 0 else 0.6
    return Sample(
        contender=contender,
        backend=_backend(contender),
        model="convnet",
        batch_size=batch_size,
        setting=setting,
        repeat=repeat,
        position=0,
        num_steps=NUM_STEPS,
        num_rows=NUM_STEPS * batch_size,
        epoch_seconds=tuple(float(epoch * NUM_STEPS * j) for j in (1.2, *jitter[:3])),
        cached_epoch_seconds=tuple(float(cached * NUM_STEPS * j) for j in jitter[3:6]),
        import_seconds={"jax": 1.8, "tensorflow": 4.1}.get(_backend(contender), 3.0) * jitter[6],
        build_seconds=0.4,
        first_step_seconds=compile_seconds,
        compile_cache="none"
        if _backend(contender) == "torch"
        else ("cold" if repeat == 0 else "warm"),
        peak_host_bytes=int((700 + 100 * len(contender)) * 2**20 * jitter[6]),
        peak_host_counter="ru_maxrss",
        epoch_losses=tuple(float(0.9 * 0.5**k * jitter[k]) for k in range(4)),
        final_loss=float(0.1 * jitter[0]),
        final_accuracy=float(0.97 + 0.002 * rng.standard_normal()),
        evaluated_on="test",
        engine=ENGINES[setting],
        load_before=1.1,
        load_after=1.9,
        environment={
            "device": "cpu",
            "threads": 2,
            "tf32": False,
            "layout": "channels_last",
            "affinity": [0, 1],
            "settings": {"TF_NUM_INTEROP_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "2"},
        },
    )
