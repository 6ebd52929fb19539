# mypy: ignore-errors
# ruff: noqa
# fmt: off
# Written with the reference, not here: the copy stays as it came.
"""Deterministic weights and input for the DeepLab parity check.  numpy only.

value_for(name, shape) gives the float32 array of the TF variable `name` (TF name
without ':0', TF layout: conv kernels HWIO, depthwise kernels HWC1).

    rng  = numpy.random.Generator(numpy.random.PCG64(zlib.crc32(name.encode())))
    */weights, */kernel        : rng.standard_normal(shape) * sqrt(2 / (kh*kw*cin))
    */depthwise_weights        : rng.standard_normal(shape) * sqrt(2 / (kh*kw))
    */gamma                    : (0.5 + rng.random(shape)) * damp(name)
    */beta, moving_mean, biases: rng.standard_normal(shape) * 0.1
    */moving_variance          : 0.5 + rng.random(shape)

All is computed in float64 (C order), then cast to float32.  damp(name) keeps the
residual sums from exploding:
    .../xception_module/separable_conv3_pointwise/BatchNorm/gamma : 0.05 in
        middle_flow, 0.2 elsewhere
    .../bottleneck_v1/conv3/BatchNorm/gamma                       : 0.2
    .../expanded_conv*/project/BatchNorm/gamma (MobileNet)         : 0.5
    everything else                                               : 1
"""
import math
import zlib

import numpy as np


def damp(name):
    if name.endswith('/xception_module/separable_conv3_pointwise/BatchNorm/gamma'):
        return 0.05 if '/middle_flow/' in name else 0.2
    if name.endswith('/bottleneck_v1/conv3/BatchNorm/gamma'):
        return 0.2
    if name.endswith('/project/BatchNorm/gamma'):
        return 0.5
    return 1.0


def value_for(name, shape):
    name = name.split(':')[0]
    shape = tuple(int(s) for s in shape)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    leaf = name.rsplit('/', 1)[-1]
    if leaf == 'depthwise_weights':
        v = rng.standard_normal(shape) * math.sqrt(2.0 / (shape[0] * shape[1]))
    elif leaf in ('weights', 'kernel'):
        v = rng.standard_normal(shape) * math.sqrt(
            2.0 / (shape[0] * shape[1] * shape[2]))
    elif leaf == 'gamma':
        v = (0.5 + rng.random(shape)) * damp(name)
    elif leaf == 'moving_variance':
        v = 0.5 + rng.random(shape)
    elif leaf in ('beta', 'moving_mean', 'biases', 'bias'):
        v = rng.standard_normal(shape) * 0.1
    else:
        raise ValueError('no rule for ' + name)
    return v.astype(np.float32)


def crc(a):
    return zlib.crc32(np.ascontiguousarray(a).tobytes())


def test_image(height, width, seed=7):
    """uint8 [1, height, width, 3]: smooth waves, a sharp disc, a bar, mild noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    img = np.zeros((height, width, 3))
    for c in range(3):
        for _ in range(4):
            fy, fx, ph, am = (rng.uniform(0.5, 6), rng.uniform(0.5, 6),
                              rng.uniform(0, 2 * np.pi), rng.uniform(10, 35))
            img[..., c] += am * np.sin(2 * np.pi * (fy * y / height + fx * x / width) + ph)
    img += 120.0
    disc = (y - 0.4 * height) ** 2 + (x - 0.6 * width) ** 2 < (0.2 * min(height, width)) ** 2
    img[disc] = img[disc] * 0.3 + np.array([200.0, 30.0, 60.0]) * 0.7
    bar = np.abs(y - 0.8 * height + 0.2 * x) < 4
    img[bar] = np.array([20.0, 220.0, 180.0])
    img += rng.standard_normal(img.shape) * 6.0
    return np.clip(np.rint(img), 0, 255).astype(np.uint8)[None]
