"""Libraries to compare with, live. `make test-oracles` has them all and makes a missing one an error, not a skip."""

from __future__ import annotations

import importlib
import os
import runpy
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1]
TOLERANCE = 1e-5  # of the largest value of a map
SIZES = [(65, 97), (64, 90)]  # odd and even: padding differs on even sizes alone


def oracle(name: str) -> Any:
    """Import a library, or skip with a reason where it may be absent.

    Tests of the benchmarks may have imported it from their own environment, which is none to compare in.
    """
    if os.environ.get("ATROUS_ORACLES") != "required" and PathFinder.find_spec(name) is None:
        pytest.skip(f"{name} is absent; make test-oracles compares with it")
    return importlib.import_module(name)


@pytest.fixture(scope="session")
def torchvision() -> Any:
    """The package torchvision, with its models."""
    oracle("torchvision")
    return importlib.import_module("torchvision.models")


@pytest.fixture(scope="session")
def timm() -> Any:
    """The package timm."""
    return oracle("timm")


def fill(model: nn.Module, *, damped: tuple[str, ...], basic_block: bool = False) -> dict[str, Tensor]:
    """Give a library's network the weights of torchvision/values.py by its own names, and return them.

    Args:
        model: The network.
        damped: Endings of the batch norms' weights that end residual branches, beside those that values.py knows: with
            a fifth, sums over many units stay small.
        basic_block: As values.py takes it.
    """
    value_for: Callable[..., Any] = runpy.run_path(str(FOLDER / "torchvision" / "values.py"))["value_for"]
    state = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = torch.zeros_like(tensor)
            continue
        value = torch.from_numpy(value_for(name, tuple(tensor.shape), basic_block))
        state[name] = value * 0.2 if name.endswith(damped) else value
    model.load_state_dict(state)
    model.eval()
    return state


def image(size: tuple[int, int]) -> Tensor:
    """Return the reference's image, normalised for ImageNet, [1, 3, H, W]."""
    test_image = runpy.run_path(str(FOLDER / "tensorflow" / "values.py"))["test_image"]
    image_NCHW = torch.from_numpy(test_image(*size)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (image_NCHW - mean[:, None, None]) / std[:, None, None]


def kept_outputs(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return a mapping that every forward pass fills with the outputs of the modules."""
    outputs: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out.clone()}))
    return outputs


def assert_close(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Same maps by name, each to a hundred thousandth of its largest value."""
    assert ours.keys() == wanted.keys()
    for name, map_NCHW in wanted.items():
        assert ours[name].shape == map_NCHW.shape
        largest = float(map_NCHW.abs().max())
        assert np.isfinite(largest)
        assert float((ours[name] - map_NCHW).abs().max()) <= TOLERANCE * largest, name
