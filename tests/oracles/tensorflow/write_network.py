"""Write a training checkpoint of a whole official network with TensorFlow itself: weights, Momentum slots, global_step.

    python tests/oracles/tensorflow/write_network.py deeplabv3_mobilenetv2_os16 FOLDER/model.ckpt

needs TensorFlow and nothing of atrous. Names and shapes are those of the .json beside this file, values of values.py.
"""

from __future__ import annotations

import json
import runpy
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


def main(name: str, prefix: Path) -> None:
    """Take one training step, so that the slots hold something; then set the weights, and save all."""
    v1 = import_module("tensorflow").compat.v1
    value_for = runpy.run_path(str(HERE / "values.py"))["value_for"]
    listed = json.loads((HERE / f"{name}.json").read_text())["variables"]
    with v1.Graph().as_default():
        variables = {
            variable: v1.get_variable(variable, shape, trainable="/moving_" not in variable)
            for variable, shape in listed
        }
        step = v1.train.get_or_create_global_step()
        loss = v1.add_n([v1.reduce_sum(variable**2) for variable in v1.trainable_variables()])
        train = v1.train.MomentumOptimizer(0.007, 0.9).minimize(loss, global_step=step)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(train)
            initializers = {variables[name].initializer: value_for(name, shape) for name, shape in listed}
            session.run(list(initializers), {op.inputs[1]: value for op, value in initializers.items()})
            v1.train.Saver().save(session, str(prefix), write_meta_graph=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
