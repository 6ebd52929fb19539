"""What tests of trained networks share, and a process that a watchdog ends, told instead of ended."""

import faulthandler
import os
import signal
import sys
from functools import partial
from typing import Any

import pytest
import torch

from atrous import DeepLabV3
from atrous.networks import ResNet


@pytest.fixture
def scored_config() -> dict[str, Any]:
    """What the evaluation of a run on four scenes of 65 pixels reads of its config."""
    return {
        "recipe": {"preprocessing": "imagenet", "precision": "32-true"},
        "data": {
            "val": {"_target_": "atrous.data.Shapes", "split": "val", "length": 4, "size": 65},
            "evaluation_size": None,
            "val_batch_size": 1,
            "num_workers": 0,
        },
        "trainer": {"accelerator": "cpu"},
    }


@pytest.fixture
def model() -> DeepLabV3:
    """A small network for the classes of shapes."""
    torch.manual_seed(0)
    backbone = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    return DeepLabV3(backbone=backbone, aspp_channels=8, multi_grid=None, num_classes=11)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended; the thread that watches ends there.

    A busy disk may keep that thread longer than a short time-out allows: nothing else may end the tests' own process.
    """
    codes: list[int] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)

    def end(code: int) -> None:
        codes.append(code)
        sys.exit()

    monkeypatch.setattr(os, "_exit", end)
    return codes
