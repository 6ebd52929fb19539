"""What the LightningModule of a run does beside its loss."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader, default_collate

from atrous import DeepLabV3
from atrous.data.loading import EvaluationSamples
from atrous.data.shapes import Shapes
from atrous.data.spec import DatasetSpec
from atrous.training.reporting import SamplePredictions
from atrous.training.task import SegmentationTask

_OPTIMIZER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}


def _task(model: DeepLabV3, spec: DatasetSpec) -> SegmentationTask:
    return SegmentationTask(
        model=model, spec=spec, seed=0, max_steps=2, preprocessing="inception", optimizer=_OPTIMIZER
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_do_not_lie_beside_the_next_forward_pass(model: DeepLabV3, accumulate: int) -> None:
    dataset = Shapes(split="train", length=8, size=65)
    found: list[bool] = []
    model.backbone.register_forward_pre_hook(
        lambda *_: found.append(any(parameter.grad is not None for parameter in model.parameters()))
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    samples = [EvaluationSamples(dataset=dataset, padded_size=(65, 65), output_stride=16)[i] for i in range(8)]
    trainer.fit(_task(model, dataset.spec), DataLoader(samples, batch_size=2))  # type: ignore[arg-type]
    assert found == [False, *[True] * (accumulate - 1)] * 2  # the parts of a batch add up
    assert any(not torch.equal(was, parameter) for was, parameter in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("tf32", [False, True])
def test_images_of_a_validation_are_predicted_without_a_trial_of_kernels_in_the_trainings_precision(
    model: DeepLabV3, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    samples = EvaluationSamples(dataset=Shapes(split="val", length=2, size=65), padded_size=(65, 65), output_stride=16)
    task = _task(model, samples.dataset.spec).eval()
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
