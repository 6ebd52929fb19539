"""Batch norm's policy: decay, frozen for good, in step across ranks."""

import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from atrous import DeepLabV3
from atrous.data.spec import VOC_SPEC
from atrous.errors import ConfigError
from atrous.networks import ResNet
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d
from atrous.training.batch_norm import batch_norms, set_decay, synchronise, warning_of_parts
from atrous.training.task import SegmentationTask


def _model() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3(
        backbone=partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4), aspp_channels=8, multi_grid=None
    )


def test_decay_is_one_minus_pytorchs_momentum_by_group() -> None:
    model = _model()
    set_decay(model, backbone=0.95, head=0.9997)
    assert {round(norm.momentum or 0, 6) for norm in batch_norms(model.backbone)} == {0.05}
    assert {round(norm.momentum or 0, 6) for norm in batch_norms(model.context)} == {0.0003}


def test_frozen_batch_norm_is_bit_identical_after_training_and_validation_modes() -> None:
    model = _model()
    task = SegmentationTask(
        model=model,
        spec=VOC_SPEC,
        seed=0,
        max_steps=2,
        preprocessing="inception",
        freeze_batch_norm=True,
        optimizer={"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9},
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = task.configure_optimizers()["optimizer"]
    for _ in range(2):
        task.eval()
        task.train()
        batch = {
            "image": torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8),
            "label": torch.randint(0, 21, (2, 33, 33), dtype=torch.uint8),
            "extent": torch.tensor([[33, 33]] * 2),
        }
        task.training_step(batch, 0).backward()  # type: ignore[arg-type, no-untyped-call]
        optimizer.step()
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    after = model.state_dict()
    for name, value in before.items():
        is_norm = name.rsplit(".", 1)[0] in norms
        assert torch.equal(value, after[name]) == is_norm or not is_norm
    assert any(not torch.equal(before[name], after[name]) for name in before)


def _batch() -> torch.Tensor:
    return torch.randn(8, 6, 5, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_synchronising_changes_no_name_and_no_weight() -> None:
    model = _model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    synced = synchronise(model, on_cuda=False)
    assert all(torch.equal(value, before[name]) for name, value in synced.state_dict().items())
    assert {type(norm) for norm in batch_norms(synced)} == {CrossRankBatchNorm2d}


class _NormAct(nn.BatchNorm2d):
    """Stands in for timm's BatchNormAct2d, which normalises, drops and activates."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Dropout(0.5), nn.ReLU(inplace=True)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        y_NCHW: torch.Tensor = self.act(self.drop(super().forward(x_NCHW)))
        return y_NCHW


def _convert_as_timm(model: nn.Module) -> nn.Module:
    model.add_module("1", nn.Identity())
    return model


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package timm with that batch norm, and a conversion that can be told."""
    layers = SimpleNamespace(BatchNormAct2d=_NormAct, convert_sync_batchnorm=_convert_as_timm)
    monkeypatch.setitem(sys.modules, "timm.layers", layers)


@pytest.mark.usefixtures("timm")
def test_timms_activation_stays_behind_its_batch_norm_and_the_statistics_are_of_all_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, synced = (nn.Sequential(nn.Conv2d(6, 6, 1), _NormAct(6)) for _ in range(2))
    synced.load_state_dict(plain.state_dict())
    synchronise(synced, on_cuda=False)
    assert isinstance(synced[1], CrossRankBatchNorm2d)
    assert plain.state_dict().keys() == synced.state_dict().keys()
    gathered: list[torch.Tensor] = []

    def gather(every: list[torch.Tensor], own: torch.Tensor) -> None:
        gathered.append(own)
        every[0].copy_(own)
        every[1].zero_()  # a rank that sees nothing

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", gather)
    maps = []
    for network in (plain, synced):
        torch.manual_seed(0)
        maps.append(network(_batch()))
    torch.testing.assert_close(maps[1], maps[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(synced[1].running_mean, plain[1].running_mean)
    assert [tensor.shape for tensor in gathered] == [(13,)]  # pixels, and mean and squares of six channels
    torch.testing.assert_close(synced.eval()(_batch()), plain.eval()(_batch()), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("timm")
def test_on_cuda_timm_converts_what_holds_its_batch_norm_and_pytorch_the_rest() -> None:
    converted = synchronise(nn.Sequential(nn.BatchNorm2d(6), _NormAct(6)), on_cuda=True)
    assert isinstance(converted[1], nn.Identity)  # type: ignore[index]
    converted = synchronise(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), on_cuda=True)
    assert isinstance(converted[1], nn.SyncBatchNorm)  # type: ignore[index]


@pytest.mark.parametrize("on_cuda", [True, False])
def test_a_batch_norm_that_computes_something_else_is_refused_before_any_is_changed(on_cuda: bool) -> None:
    model = nn.Sequential(nn.BatchNorm2d(6), _NormAct(6))
    with pytest.raises(
        ConfigError, match=r"backbone\.name: .*_NormAct, which cannot be synchronised .* take trainer\.devices=1"
    ):
        synchronise(model, on_cuda=on_cuda)
    assert [type(norm) for norm in model] == [nn.BatchNorm2d, _NormAct]


@pytest.mark.parametrize(("accumulate", "frozen"), [(1, False), (4, True)])
def test_a_batch_in_one_part_or_frozen_statistics_need_no_warning(accumulate: int, frozen: bool) -> None:
    assert warning_of_parts({"batch_size": 16, "batch_norm": {"frozen": frozen}}, accumulate) is None


def test_parts_of_a_batch_are_warned_of_with_what_batch_norm_sees() -> None:
    warning = warning_of_parts({"batch_size": 16, "batch_norm": {"frozen": False}}, 4)
    assert warning is not None
    assert "trainer.accumulate=4: batch norm sees 4 images at once, not the 16 of recipe.batch_size" in warning
