"""From bytes to the network's input, on the device: Inception's range, ResNet's mean or ImageNet's mean and std."""

from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.errors import ConfigError

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Channel-wise (x - mean) / std on RGB values 0..255.

    Attributes:
        mean: per channel, 0..255.
        std: per channel, 0..255.
    """

    mean: Triple
    std: Triple

    @classmethod
    def named(cls, name: str) -> "Preprocessing":
        """Return one of the preprocessings that released weights expect.

        Args:
            name: "inception" (x * 2/255 - 1: Xception, beta ResNet, MobileNetV2), "rgb_mean" (the mean subtracted:
                7x7 ResNet of the released code) or "imagenet" (mean and standard deviation: torchvision).

        Raises:
            ConfigError: the name is unknown.
        """
        known = {"inception": INCEPTION, "rgb_mean": RGB_MEAN, "imagenet": IMAGENET}
        if name not in known:
            raise ConfigError(f"preprocessing={name!r} is unknown; choose one of {', '.join(known)}")
        return known[name]

    def normalise(self, images_NCHW: Tensor, extent_N2: Tensor) -> Tensor:
        """Normalise images; padding becomes exactly 0, the value of a mean pixel.

        Args:
            images_NCHW: uint8 RGB, any memory format, on any device.
            extent_N2: (height, width) of each image's real content, at the top left.

        Returns:
            float32 [N, 3, H, W], channels last in memory (as the loaders deliver the bytes).
        """
        n, _, height, width = images_NCHW.shape
        device = images_NCHW.device
        extent_N2 = extent_N2.to(device)
        inside_NH1 = (torch.arange(height, device=device) < extent_N2[:, :1]).to(torch.float32)[:, :, None]
        inside_NW1 = (torch.arange(width, device=device) < extent_N2[:, 1:]).to(torch.float32)[:, :, None]
        # Rows of W * 3 values: a broadcast over an innermost axis of 3 would be several times slower on a CPU.
        mean = _on(device, self.mean).repeat(width)
        scale_N1R = (inside_NW1 / _on(device, self.std)).view(n, 1, width * 3)
        x_NHR = images_NCHW.permute(0, 2, 3, 1).reshape(n, height, width * 3).to(torch.float32)
        x_NHR = x_NHR.sub_(mean).mul_(scale_N1R).mul_(inside_NH1)
        return x_NHR.view(n, height, width, 3).permute(0, 3, 1, 2)


def _on(device: torch.device, values: Triple) -> Tensor:
    """Numbers on a device, filled in there: copying them from the host would wait for a GPU in every step."""
    return torch.cat([torch.full((1,), value, device=device) for value in values])


INCEPTION = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
RGB_MEAN = Preprocessing(mean=(123.15, 115.90, 103.06), std=(1.0, 1.0, 1.0))
IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
