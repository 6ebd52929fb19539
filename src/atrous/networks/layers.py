"""Convolution + batch norm (+ ReLU), the brick of every network of both papers, and the classifier."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks.atrous_convolution import atrous_conv2d, pays

BATCH_NORM_EPSILON = 1e-5  # ResNet, ASPP, image pooling and decoder; Xception and MobileNetV2 use 1e-3


class HeConv2d(nn.Conv2d):
    """A convolution that starts from He's normal distribution: variance 2 / fan-in."""

    def reset_parameters(self) -> None:
        """Draw new weights; a bias becomes 0."""
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Convolve as nn.Conv2d does; where it pays, with a faster gradient of the weights."""
        if pays(self, x_NCHW):
            return atrous_conv2d(x_NCHW, self.weight, rate=self.dilation[0])
        return super().forward(x_NCHW)


class ConvBatchNorm(nn.Module):
    """Convolution without a bias, batch norm and, if wanted, ReLU.

    Pads symmetrically by rate * (kernel_size - 1) / 2, so that a map of n rows becomes one of ceil(n / stride). The
    decay of the batch norm is left at PyTorch's default: the training recipe owns it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: An odd kernel size.
        stride: Stride of the convolution.
        rate: Atrous rate of the convolution.
        groups: Groups of the convolution; `in_channels` makes it depthwise.
        eps: Epsilon of the batch norm.
        relu: Whether a ReLU follows.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        rate: int = 1,
        groups: int = 1,
        eps: float = BATCH_NORM_EPSILON,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = HeConv2d(in_channels, out_channels, kernel_size, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        self.relu = relu
        self.set_atrous(stride=stride, rate=rate)

    def set_atrous(self, *, stride: int | None = None, rate: int | None = None) -> None:
        """Set the stride, the atrous rate, or both; no parameter changes."""
        if stride is not None:
            self.conv.stride = (stride, stride)
        if rate is not None:
            padding = rate * (self.conv.kernel_size[0] - 1) // 2
            self.conv.dilation = (rate, rate)
            self.conv.padding = (padding, padding)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y_NCHW: Tensor = self.norm(self.conv(x_NCHW))
        return F.relu(y_NCHW, inplace=True) if self.relu else y_NCHW


class Subsample(nn.Module):
    """Keeps every stride-th row and column: the shortcut of a strided unit whose channels do not change."""

    def __init__(self, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def set_atrous(self, *, stride: int | None = None, rate: int | None = None) -> None:
        """Set the stride; a shortcut has no rate."""
        self.stride = self.stride if stride is None else stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, C, ceil(H / stride), ceil(W / stride)]."""
        return x_NCHW if self.stride == 1 else x_NCHW[..., :: self.stride, :: self.stride]


class Classifier(nn.Conv2d):
    """The 1x1 convolution to class logits, the only one with a bias; weights start truncated normal, std 0.01."""

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, kernel_size=1)

    def reset_parameters(self) -> None:
        """Draw new weights, cut at two standard deviations as TensorFlow does; the bias becomes 0."""
        nn.init.trunc_normal_(self.weight, std=0.01, a=-0.02, b=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
