"""Prepared copies: the same logits without batch norm, the original untouched."""

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.evaluation.preparation import PackedConv, folded, prepared
from atrous.networks import ResNet, mobilenetv2
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import Xception

SMALL = partial(ResNet, units=(2, 1, 1, 1), unit="basic", width=8)
NETWORKS: dict[str, Callable[[], Segmenter]] = {
    "plus": lambda: DeepLabV3Plus(
        backbone=SMALL, num_classes=5, aspp_channels=16, aspp_separable=True, decoder_separable=True
    ),
    "aspp": lambda: DeepLabV3(backbone=SMALL, num_classes=5, aspp_channels=16, head_convolutions=((3, 16),)),
    "cascade": lambda: DeepLabV3Cascade(backbone=SMALL, num_classes=5, blocks=5, multi_grid=None),
    "mobilenet": lambda: DeepLabV3(backbone=partial(mobilenetv2, width=0.35), num_classes=5, aspp_rates=()),
    "xception": lambda: DeepLabV3Plus(
        backbone=partial(Xception, middle_units=1, width=0.05), num_classes=5, aspp_channels=16
    ),
}


def _network(name: str) -> Segmenter:
    """A network whose batch norms all differ from the identity."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 2)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stride", [16, 8])
def test_folded_is_unfolded_to_1e_5_of_the_largest_logit(name: str, stride: int) -> None:
    model, images = _network(name), torch.randn(2, 3, 50, 65)
    without_norms = folded(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in without_norms.modules())
    for network in (model, without_norms):
        network.set_output_stride(stride)
    expected = model(images)
    assert (without_norms(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (prepared(model)(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_network_itself_stays_as_it_is() -> None:
    model = _network("plus").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared(model, bf16=True)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.dtype != torch.bfloat16 for value in model.state_dict().values())


def test_a_copy_for_another_device_leaves_the_network_where_it_is() -> None:
    model = _network("plus")
    assert {value.device.type for value in prepared(model, device="meta").state_dict().values()} == {"meta"}
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("packs", [True, False])
def test_bfloat16_stays_within_its_own_rounding(name: str, packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if packs and not PackedConv.is_available():
        pytest.skip("this CPU has no bfloat16 in hardware, or this build of PyTorch no fused convolution of oneDNN")
    monkeypatch.setattr(PackedConv, "is_available", staticmethod(lambda: packs))
    model, images = _network(name), torch.randn(2, 3, 50, 65)
    fast = prepared(model, bf16=True)
    assert any(isinstance(module, PackedConv) for module in fast.modules()) == packs
    for stride in (16, 8):
        for network in (model, fast):
            network.set_output_stride(stride)
        expected, measured = model(images), fast(images)
        assert measured.dtype == torch.float32
        assert _relative(measured, expected) < 0.05


def _convolve_anywhere(
    conv: PackedConv, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None, activation: str
) -> Tensor:
    y_NCHW = F.conv2d(x_NCHW, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return y_NCHW.relu() if activation == "relu" else y_NCHW


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_packed_networks_run_on_a_cpu_without_bfloat16_in_hardware(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands in for what only such a CPU computes, so that what is around it is tested on every machine.
    monkeypatch.setattr(PackedConv, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(PackedConv, "_packed", lambda _conv, weight_OIkk: weight_OIkk)
    monkeypatch.setattr(PackedConv, "_convolve", _convolve_anywhere)
    model, images = _network(name), torch.randn(2, 3, 50, 65)
    fast = prepared(model, bf16=True)
    assert any(isinstance(module, PackedConv) for module in fast.modules())
    for stride in (16, 8):
        for network in (model, fast):
            network.set_output_stride(stride)
        assert _relative(fast(images), model(images)) < 0.05


@torch.no_grad()
def test_a_packed_convolution_is_pytorchs_convolution_and_relu() -> None:
    if not PackedConv.is_available():
        pytest.skip("this CPU has no bfloat16 in hardware, or this build of PyTorch no fused convolution of oneDNN")
    for channels, kernel, stride, rate, groups in (
        (16, 3, 1, 1, 1),
        (16, 3, 2, 1, 1),
        (16, 3, 1, 6, 1),
        (16, 1, 1, 1, 1),
        (16, 3, 1, 2, 16),
        (1300, 3, 1, 6, 1),  # in three parts
        (1300, 1, 1, 1, 1),
    ):
        padding = rate * (kernel // 2)
        conv = nn.Conv2d(channels, 16, kernel, stride=stride, padding=padding, dilation=rate, groups=groups).bfloat16()
        images = torch.randn(2, channels, 23, 19).bfloat16()
        expected = conv.float()(images.float()).relu()
        packed = PackedConv(conv.bfloat16(), activation="relu")
        torch.testing.assert_close(packed(images).float(), expected, atol=0.03, rtol=0.02)
        for again in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):  # noqa: S301  # our own
            assert torch.equal(again(images), packed(images))


def _relative(measured: Tensor, expected: Tensor) -> float:
    return float((measured - expected).norm() / expected.norm())
