"""What the LightningModule of a run does beside its loss."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import default_collate

from atrous import DeepLabV3
from atrous.data.loading import EvaluationSamples
from atrous.data.shapes import Shapes
from atrous.training.reporting import SamplePredictions
from atrous.training.task import SegmentationTask

_OPTIMIZER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}


@pytest.mark.parametrize("tf32", [False, True])
def test_images_of_a_validation_are_predicted_without_a_trial_of_kernels_in_the_trainings_precision(
    model: DeepLabV3, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    samples = EvaluationSamples(dataset=Shapes(split="val", length=2, size=65), padded_size=(65, 65), output_stride=16)
    task = SegmentationTask(
        model=model,
        spec=samples.dataset.spec,
        seed=0,
        max_steps=1,
        preprocessing="inception",
        optimizer=_OPTIMIZER,
    ).eval()
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    monkeypatch.setattr(cudnn, "allow_tf32", tf32)
    seen: list[tuple[bool, bool, bool]] = []
    model.backbone.register_forward_pre_hook(
        lambda *_: seen.append((cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32))
    )
    mixed: list[bool] = []
    model.backbone.register_forward_pre_hook(lambda *_: mixed.append(torch.is_autocast_enabled("cpu")))
    precision = MixedPrecision("bf16-mixed", "cpu")
    with torch.no_grad(), precision.val_step_context():
        task.validation_step(default_collate([samples[0], samples[1]]), 0)
    sent: list[Any] = []
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=1, precision_plugin=precision)
    SamplePredictions(samples=samples, count=1, send=lambda *given: sent.append(given)).on_validation_end(trainer, task)
    assert len(sent) == 1
    assert seen == [(False, True, tf32)] * 2
    assert mixed == [True] * 2
    assert (cudnn.benchmark, cudnn.allow_tf32) == (True, tf32)
