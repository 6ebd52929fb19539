"""A network with all that it takes to go from an image to classes at the image's own size."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from atrous.data.files import Pixels, read_image
from atrous.data.pillow import DAMAGED, is_deep
from atrous.data.preprocessing import Preprocessing
from atrous.data.samples import aligned
from atrous.errors import ConfigError, DataError
from atrous.evaluation.bands import Passes
from atrous.evaluation.inference import mean_probabilities, run_passes
from atrous.evaluation.preparation import prepared
from atrous.evaluation.protocol import Protocol, load_protocol
from atrous.evaluation.tiles import tiled_labels
from atrous.hardware import device_type, has_bf16, repeatable_kernels, require_device
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.result import Prediction

PRECISIONS = ("auto", "float32", "bf16")
AnyImage = str | Path | Image.Image | Pixels
_ONE_AT_A_TIME = threading.RLock()  # for the time of a prediction the network has its stride, and PyTorch its flags
# A fork has no thread that would release what another one held.
os.register_at_fork(after_in_child=lambda: globals().update(_ONE_AT_A_TIME=threading.RLock()))


class Predictor:
    """Predicts images of any size; what `atrous.load` returns. Threads may share one: their predictions take turns.

    Args:
        network: in any mode, on any device; a prepared copy is made, and the network stays as it is.
        description: what the network takes and says.
        precision: "float32", "bf16", or "auto": bf16 where it is in hardware.
        device: "cpu", "cuda", or "auto".

    Raises:
        ConfigError: an unknown precision, or a device that is not here.
    """

    def __init__(
        self, *, network: Segmenter, description: Description, precision: str = "auto", device: str = "auto"
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision={precision!r}: one of {', '.join(PRECISIONS)}")
        require_device(device, key="device")
        self.description, self.device = description, device_type(device)
        self.bf16 = precision == "bf16" or (precision == "auto" and has_bf16(self.device))
        self.network = prepared(network, bf16=self.bf16, device=self.device)
        self._preprocessing = Preprocessing.named(description.preprocessing)
        self._set_aside: int | None = None  # the network's stride: in a prediction, and in a fork of that time

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a name's position is its label."""
        return self.description.spec.classes

    def predict(self, image: AnyImage, *, protocol: str | Protocol = "single") -> Prediction:
        """Predict one image.

        Args:
            image: a file's path, a PIL image, or uint8 RGB [H, W, 3]. The first two are turned upright as their EXIF
                orientation says, and the result has the size of the upright image.
            protocol: a value, or a name in conf/protocol.

        Raises:
            DataError: the image cannot be read, or has another shape.
            ConfigError: the protocol is unknown, or its output stride does not fit the network.
        """
        return self.predict_batch([pixels_of(image)], protocol=protocol)[0]

    def predict_batch(self, images: Iterable[Pixels], *, protocol: str | Protocol = "single") -> list[Prediction]:
        """Predict images that are padded to one size, see `padded_size`; each as it would be alone.

        Args:
            images: at least one, uint8 RGB [H, W, 3].
            protocol: as in `predict`.

        Raises:
            DataError: there is none, one is no such image, or they are padded to several sizes.
            ConfigError: as in `predict`.
        """
        protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        if not isinstance(protocol, Protocol):
            raise ConfigError(f"protocol={protocol!r}: a Protocol, or the name of one, such as 'single'")
        with _ONE_AT_A_TIME:
            return self._predict_batch(list(images), protocol)

    def _predict_batch(self, images: Sequence[Pixels], protocol: Protocol) -> list[Prediction]:
        self._check(images, protocol)
        trained_stride = self._set_aside or self.network.output_stride
        try:
            self._set_aside = trained_stride
            self.network.set_output_stride(protocol.output_stride or trained_stride)
            with torch.inference_mode(), repeatable_kernels():
                x_N3HW, extents = self._batch(images, protocol)
                if protocol.tile is not None:
                    return self._in_tiles(images, x_N3HW, extents, protocol)
                x_N3HW = self._preprocessing.normalise(x_N3HW.to(self.device), extents)
                passes = run_passes(self.network, x_N3HW, protocol)
                return [self._prediction(image, passes.image(place)) for place, image in enumerate(images)]
        finally:
            self.network.set_output_stride(trained_stride)
            self._set_aside = None

    def padded_size(self, image: Pixels, protocol: Protocol) -> tuple[int, int]:
        """Return the (height, width) to which an image is padded: the evaluation's where the image fits into it."""
        height, width = image.shape[:2]
        size = protocol.padded_size or self.description.padded_size
        if size is not None and height <= size[0] and width <= size[1]:
            return size[0], size[1]
        with _ONE_AT_A_TIME:  # else it may be another thread's
            stride = protocol.output_stride or self._set_aside or self.network.output_stride
        return aligned(height, stride), aligned(width, stride)

    def _check(self, images: Sequence[Pixels], protocol: Protocol) -> None:
        if not len(images):
            raise DataError("images is empty; expected at least one image, uint8 RGB [height, width, 3]")
        for image in images:
            _check_pixels(image)
        sizes = [self.padded_size(image, protocol) for image in images]
        for place, size in enumerate(sizes):
            if size != sizes[0]:
                raise DataError(
                    f"images[0] is padded to {list(sizes[0])} and images[{place}] to {list(size)} (height, width); "
                    "expected one size: predict them one by one, or those together that padded_size gives the same"
                )

    def _batch(self, images: Sequence[Pixels], protocol: Protocol) -> tuple[Tensor, Tensor]:
        """Padded images, uint8 [N, 3, H, W] in the machine's memory, and the (height, width) of each."""
        height, width = self.padded_size(images[0], protocol)
        batch_NHWC = np.zeros((len(images), height, width, 3), np.uint8)
        for place, image in enumerate(images):
            batch_NHWC[place, : image.shape[0], : image.shape[1]] = image
        extents = torch.tensor([image.shape[:2] for image in images])
        return torch.from_numpy(batch_NHWC).permute(0, 3, 1, 2), extents

    def _prediction(self, image: Pixels, passes: Passes) -> Prediction:
        height, width = image.shape[:2]
        labels = np.empty((height, width), np.uint8)
        for rows in passes.bands(height):
            labels[rows] = passes.labels(rows)[0, :, :width].to(torch.uint8).cpu().numpy()
        return Prediction(image, labels, self.description.spec, passes)

    def _in_tiles(
        self, images: Sequence[Pixels], x_N3HW: Tensor, extents: Tensor, protocol: Protocol
    ) -> list[Prediction]:
        """Predict bytes; only a tile of them is on the device, and made floats, at a time."""
        assert protocol.tile is not None

        def probabilities(rows: slice, columns: slice) -> Tensor:
            inside = extents - torch.tensor([rows.start, columns.start])
            tile = self._preprocessing.normalise(x_N3HW[..., rows, columns].to(self.device), inside)
            return mean_probabilities(self.network, tile, protocol)

        size = (x_N3HW.shape[-2], x_N3HW.shape[-1])
        labels_NHW = tiled_labels(probabilities, size, tile=protocol.tile, overlap=protocol.overlap).cpu().numpy()
        return [
            Prediction(image, labels[: image.shape[0], : image.shape[1]], self.description.spec)
            for image, labels in zip(images, labels_NHW, strict=True)
        ]


def pixels_of(image: AnyImage) -> Pixels:
    """Return an image as uint8 RGB [H, W, 3]; a file and a PIL image upright, as their EXIF orientation says.

    Raises:
        DataError: the file or the PIL image cannot be read, or the array is no such image.
    """
    if isinstance(image, str | Path):
        return read_image(image, upright=True)
    if isinstance(image, Image.Image):
        try:
            image.load()  # a picture that was only opened is decoded now
        except DAMAGED as error:
            which = f"image {name!r}" if (name := getattr(image, "filename", "")) else "image"
            raise DataError(f"{which} cannot be read ({error}); its file is truncated, corrupt or closed") from error
        if is_deep(image.mode):
            raise DataError(
                f"image has mode {image.mode}, more than 8 bits per channel; map the range that matters to 0..255 first"
            )
        return np.asarray(_upright(image).convert("RGB"))
    _check_pixels(image)
    return image


def _check_pixels(image: object) -> None:
    """Refuse what is no uint8 RGB [H, W, 3] of at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"image is a {type(image).__name__}; expected an array, uint8 RGB [height, width, 3] (`predict` takes a "
            "file's path or a PIL image, too)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"image is {image.dtype} {list(image.shape)}; expected uint8 RGB [height, width, 3], 0..255")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says; where that is damaged it stays as it is, as it does in a file."""
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, SyntaxError, struct.error):
        return image
