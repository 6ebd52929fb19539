"""Write small checkpoints with TensorFlow itself, and beside each the values that TensorFlow reads back out of it.

    python tests/oracles/tensorflow/write_checkpoint.py FOLDER [--large]

needs TensorFlow and nothing of atrous. The files in `checkpoint/` were written so (TensorFlow 2.21.0); `--large` adds a
checkpoint whose index has several blocks, which is too big to be kept here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
)
SCOPE = "xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1"


def _session(tf: Any, build: Callable[[], None], prefix: Path, *, sharded: bool = False, steps: int = 0) -> None:
    """Build a graph as in TensorFlow 1, take `steps` steps with momentum, save every variable."""
    with tf.Graph().as_default():
        tf.compat.v1.set_random_seed(3)
        build()
        train = _minimise(tf) if steps else None
        options = tf.compat.v1.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=False)
        with tf.compat.v1.Session(config=options) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            for _ in range(steps):
                session.run(train)
            tf.compat.v1.train.Saver(sharded=sharded).save(session, str(prefix), write_meta_graph=False)


def _minimise(tf: Any) -> Any:
    step = tf.compat.v1.train.get_or_create_global_step()
    loss = tf.add_n([tf.reduce_sum(v**2) for v in tf.compat.v1.trainable_variables()])
    return tf.compat.v1.train.MomentumOptimizer(0.05, 0.9).minimize(loss, global_step=step)


def _official(tf: Any) -> None:
    """Names, layouts and training state of an official training checkpoint."""
    new = tf.compat.v1.get_variable
    new(f"{SCOPE}_depthwise/depthwise_weights", [3, 3, 5, 1])
    new(f"{SCOPE}_pointwise/weights", [1, 1, 5, 7])
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        new(f"{SCOPE}_pointwise/BatchNorm/{name}", [7], trainable=not name.startswith("moving"))
    new("logits/semantic/biases", [3])


def _sharded(tf: Any) -> None:
    """Two devices, and so two data files; every type that the reader knows."""
    rng = np.random.default_rng(0)
    for place, kind in enumerate(KINDS):
        with tf.device(f"/cpu:{place % 2}"):
            value = (rng.random((2, 3)) * 100).astype(kind)
            tf.compat.v1.get_variable(f"kinds/{kind}", initializer=tf.constant(value), use_resource=True)
    with tf.device("/cpu:1"):
        tf.compat.v1.get_variable("shapes/scalar", initializer=tf.constant(2.5))
        tf.compat.v1.get_variable("shapes/empty", initializer=tf.zeros([0, 4]))


def _unreadable(tf: Any) -> None:
    """What the reader refuses: a variable in slices and a type that numpy has not; and a string, which it skips."""
    split = tf.compat.v1.fixed_size_partitioner(2)
    tf.compat.v1.get_variable("sliced", [4, 2], partitioner=split, initializer=tf.compat.v1.zeros_initializer())
    tf.compat.v1.get_variable("brain_float", initializer=tf.zeros([2], tf.bfloat16))
    tf.compat.v1.get_variable("text", initializer=tf.constant("words"))
    tf.compat.v1.get_variable("plain", initializer=tf.constant([1.0, 2.0]))


def _large(tf: Any) -> None:
    """An index of several blocks."""
    for number in range(2000):
        scope = f"unit_{number}/{'a_long_scope_' * 12}"
        tf.compat.v1.get_variable(f"{scope}/weights", initializer=tf.constant([float(number)]))


def _object_graph(tf: Any, prefix: Path) -> None:
    """A checkpoint of TensorFlow 2, whose names end in .ATTRIBUTES/VARIABLE_VALUE."""
    tf.train.Checkpoint(weights=tf.Variable([[1.5, -2.0]])).write(str(prefix))


def _keep_values(tf: Any, prefix: Path) -> None:
    reader = tf.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    values = {name: np.asarray(reader.get_tensor(name)) for name in sorted(shapes)}
    numbers: Any = {name: value for name, value in values.items() if value.dtype.kind in "fiucb"}
    np.savez(prefix.with_suffix(".npz"), **numbers)  # no strings and no bfloat16, which it cannot hold


def main(folder: Path, *, large: bool) -> None:
    """Write every checkpoint and its values into `folder`."""
    tf = import_module("tensorflow")
    folder.mkdir(parents=True, exist_ok=True)
    _session(tf, lambda: _official(tf), folder / "official", steps=2)
    _session(tf, lambda: _sharded(tf), folder / "sharded", sharded=True)
    _session(tf, lambda: _unreadable(tf), folder / "unreadable")
    _object_graph(tf, folder / "object_graph")
    if large:
        _session(tf, lambda: _large(tf), folder / "large")
    for index in sorted(folder.glob("*.index")):
        _keep_values(tf, index.with_suffix(""))
    (folder / "checkpoint").unlink(missing_ok=True)  # TensorFlow's note of the newest one


if __name__ == "__main__":
    main(Path(sys.argv[1]), large="--large" in sys.argv[2:])
