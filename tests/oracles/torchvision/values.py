# mypy: ignore-errors
# ruff: noqa
# fmt: off
# Written with the reference, not here: the copy stays as it came.
"""Deterministic weights by torchvision state-dict name, so that logits can be checked without torchvision. numpy only.

    rng = Generator(PCG64(crc32(name)))
    4-d weight                 : standard normal * sqrt(2 / (in_channels_per_group * kh * kw))
    running_var                : 0.5 + uniform
    running_mean, bias         : standard normal * 0.1
    1-d weight (batch norm)    : 0.5 + uniform, times 0.2 where the name ends with bn3.weight (bn2.weight in a basic block)
num_batches_tracked is 0. Computed in float64, stored as float32. The input image is values.test_image of reference/tensorflow,
divided by 255, minus mean (0.485, 0.456, 0.406), divided by std (0.229, 0.224, 0.225).
"""
import math
import zlib

import numpy as np


def value_for(name, shape, basic_block=False):
    """float32 array for the state-dict entry `name` of `shape`."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if len(shape) == 4:
        value = rng.standard_normal(shape) * math.sqrt(2.0 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("running_var"):
        value = 0.5 + rng.random(shape)
    elif name.endswith(("running_mean", "bias")):
        value = rng.standard_normal(shape) * 0.1
    else:
        last = "bn2.weight" if basic_block else "bn3.weight"
        value = (0.5 + rng.random(shape)) * (0.2 if name.endswith(last) else 1.0)
    return value.astype(np.float32)
