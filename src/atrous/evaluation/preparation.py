"""A network made ready to predict: batch norm folded into the convolutions, channels last, and bfloat16 on request.

Always a copy: the network that is given stays as it is, and can go on training.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from atrous.networks.layers import ConvBatchNorm
from atrous.networks.segmenter import Segmenter

_SPLIT = 512  # channels
_ONEDNN = ("_convolution_pointwise", "_reorder_convolution_weight", "_is_mkldnn_bf16_supported")


def folded(model: Segmenter, *, device: torch.device | str | None = None) -> Segmenter:
    """Return a copy in evaluation mode whose convolutions carry what batch norm did behind them.

    Its logits equal the network's to float32's rounding. It takes any output stride, as the network does.

    Args:
        model: any network.
        device: where the copy is; None for where the network is.
    """
    result = copy.deepcopy(model).eval().requires_grad_(False)
    if device is not None:
        result.to(device)
    for module in result.modules():
        if isinstance(module, ConvBatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return result


def prepared(model: Segmenter, *, bf16: bool = False, device: torch.device | str | None = None) -> Segmenter:
    """Return a copy that predicts as fast as the machine allows.

    Args:
        model: any network.
        bf16: whether backbone and head run in bfloat16, which pays where it is in hardware. The classifier stays in
            float32, so that logits are not rounded twice.
        device: where the copy will run; None for where the network is.

    Returns:
        A folded copy, channels last in memory; it takes and returns float32.
    """
    result = folded(model, device=device)
    if bf16:
        _reduce(result)
    return result.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _reduce(model: Segmenter) -> None:
    model.to(torch.bfloat16)
    model.classifier.float()
    model.backbone.register_forward_pre_hook(_to_bfloat16)
    model.classifier.register_forward_pre_hook(_to_float32)
    if next(model.classifier.parameters()).device.type == "cpu" and PackedConv.is_available():
        for module in model.modules():
            if isinstance(module, ConvBatchNorm) and module.activation in PackedConv.ACTIVATIONS:
                module.conv = PackedConv(module.conv, activation=module.activation)  # type: ignore[assignment]
                module.activation = "none"


class PackedConv(nn.Module):
    """A convolution with bias and ReLU in one call of oneDNN, whose weights were brought into its order once.

    A 3x3 convolution of many channels at a rate above 2 is several times slower there than the sum of convolutions of
    a part of the channels each, which is what it becomes.

    Args:
        conv: on a CPU, with a bias, in bfloat16.
        activation: what follows.
    """

    ACTIVATIONS = ("none", "relu")

    def __init__(self, conv: nn.Conv2d, *, activation: str) -> None:
        super().__init__()
        assert conv.bias is not None
        assert isinstance(conv.padding, tuple)
        self.kernel_size, self.groups, self.out_channels = conv.kernel_size, conv.groups, conv.out_channels
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.activation, self._bias = activation, conv.bias.detach()
        weight_OIkk = conv.weight.detach()
        self._splits = conv.groups == 1 and conv.kernel_size != (1, 1) and conv.in_channels > _SPLIT
        parts = torch.split(weight_OIkk, _SPLIT, dim=1) if self._splits else [weight_OIkk]
        self._weights = [self._packed(part.contiguous()) for part in parts]

    @staticmethod
    def is_available() -> bool:
        """Whether this build of PyTorch has oneDNN's fused convolution, and this CPU what bfloat16 needs there."""
        has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        has_calls = has_onednn and all(hasattr(torch.ops.mkldnn, name) for name in _ONEDNN)
        return has_calls and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def __getstate__(self) -> dict[str, Any]:
        # What oneDNN has packed can be neither copied nor pickled.
        return {**self.__dict__, "_weights": [weight.to_dense() for weight in self._weights]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._weights = [self._packed(part) for part in self._weights]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return activation(convolution + bias)."""
        if not self._splits:
            return self._convolve(x_NCHW, self._weights[0], self._bias, self.activation)
        parts = torch.split(x_NCHW, _SPLIT, dim=1)
        total = self._convolve(parts[0], self._weights[0], self._bias, "none").float()
        for part, weight in zip(parts[1:], self._weights[1:], strict=True):
            total += self._convolve(part, weight, None, "none")
        return (total.relu_() if self.activation == "relu" else total).to(x_NCHW.dtype)

    def _convolve(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        y_NCHW: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_NCHW.contiguous(memory_format=torch.channels_last),
            weight,
            bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            activation,
            [],
            "",
        )
        return y_NCHW

    def _packed(self, weight_OIkk: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight_OIkk, self.padding, self.stride, self.dilation, self.groups
        )
        return packed


def _to_bfloat16(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.to(torch.bfloat16) for value in inputs)


def _to_float32(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.float() for value in inputs)
