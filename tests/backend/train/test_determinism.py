"""deterministic=True: what it forbids on each backend, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import keras
import pytest

from kerash5._errors import RunError
from kerash5.train._determinism import make_deterministic, prepare_deterministic_jax

FLAG: Final = "--xla_gpu_deterministic_ops=true"
# A process of its own: what is forbidden stays so.
SCRIPT: Final = """
import json, sys
import keras
import numpy as np
import kerash5 as k5
from kerash5.assets import digits_train

def fit(name):
    keras.utils.set_random_seed(1)
    image = k5.Column("image", shape=(28, 28, 1))
    data = k5.H5Dataset(digits_train(), x=image, y="label", batch_size=50, rows=slice(0, 500))
    model = k5.zoo.build("lenet5", input_shape=(28, 28, 1), num_classes=10)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    k5.Trainer(max_epochs=1, deterministic=True, run_dir=f"{sys.argv[1]}/{name}", **quiet).fit(
        model, data
    )
    return [weight.tobytes() for weight in model.get_weights()]

same = fit("a") == fit("b")
backend = keras.backend.backend()
if backend == "torch":
    import torch
    on = torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
elif backend == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.framework import config
    on = config.is_op_determinism_enabled()
else:
    on = True
print(json.dumps([same, bool(on)]))
"""


def test_two_fits_are_the_same_and_the_backend_was_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [True, True]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a flag of XLA")
def test_on_a_gpu_jax_must_have_been_started_with_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    with pytest.raises(RunError, match=f"export XLA_FLAGS={FLAG}"):
        make_deterministic()
    for _ in range(2):
        prepare_deterministic_jax()
        assert os.environ["XLA_FLAGS"] == f"--xla_cpu_enable_fast_math=false {FLAG}"
    make_deterministic()
