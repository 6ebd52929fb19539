"""One pass over images for any number of protocols: every image is decoded once and predicted under each of them."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.data.dataset import SegmentationDataset
from atrous.data.loading import Sample, evaluation_loader
from atrous.data.preprocessing import Preprocessing
from atrous.errors import ConfigError
from atrous.evaluation.inference import mean_probabilities, predict
from atrous.evaluation.protocol import Protocol, Size
from atrous.evaluation.protocol_samples import ProtocolSamples
from atrous.evaluation.tiles import tiled_labels
from atrous.hardware import repeatable_kernels
from atrous.networks.dry_run import evaluating
from atrous.networks.segmenter import Segmenter

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, kw_only=True)
class Feeding:
    """How a network is fed; preprocessing and padding change a result, autocast and tf32 its rounding, no more.

    Attributes:
        preprocessing_name: how pixels are normalised.
        padded_size: what images are padded to, or None for the next k * output_stride + 1.
        batch_size: images at a time.
        num_workers: loader processes.
        device: where the network is brought to run, and stays; None for where its parameters are.
        autocast: dtype of automatic mixed precision, or None for float32.
        tf32: whether CUDA computes float32 in TensorFloat-32.
    """

    preprocessing_name: str
    padded_size: Size | None = None
    batch_size: int = 1
    num_workers: int = 0
    device: torch.device | str | None = None
    autocast: torch.dtype | None = None
    tf32: bool = False


class Predicted(NamedTuple):
    """A batch under one protocol.

    Attributes:
        name: of the protocol.
        batch: the images with their labels, padded at least as far as `labels`.
        labels: int64, of tiles uint8, [N, h, w], on the device; padding included.
        seconds: that the prediction took.
    """

    name: str
    batch: Sample
    labels: Tensor
    seconds: float


def check_protocols(model: Segmenter, protocols: Mapping[str, Protocol]) -> None:
    """Refuse protocols that do not fit a network, before anything is read; the network stays as it is.

    Raises:
        ConfigError: names the protocol.
    """
    trained_stride = model.output_stride
    for name, protocol in protocols.items():
        stride = protocol.output_stride or trained_stride
        try:
            model.set_output_stride(stride)
        except ConfigError as error:
            raise ConfigError(f"protocol {name}: {error}") from None
        finally:
            model.set_output_stride(trained_stride)
        if model.align_corners:
            protocol.check_sizes(stride, name=name)


def predictions(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocols: Mapping[str, Protocol],
    feeding: Feeding,
    *,
    indices: Sequence[int],
    on_progress: Progress = silent,
) -> Generator[Predicted]:
    """Predict images; the network's output stride and the mode of every module are put back afterwards.

    Args:
        model: the network.
        dataset: the images.
        protocols: by name.
        feeding: how the network is fed.
        indices: positions in the data set.
        on_progress: told (images done, images in all) after every batch.

    Yields:
        Every batch under every protocol.
    """
    trained_stride, done = model.output_stride, 0
    device = next(model.parameters()).device if feeding.device is None else torch.device(feeding.device)
    on_cuda = device.type == "cuda"
    samples = ProtocolSamples(
        dataset=dataset, protocols=protocols, stride=trained_stride, padded_size=feeding.padded_size
    )
    loader = evaluation_loader(
        samples,
        indices,  # type: ignore[arg-type]  # a list of indices is a sampler
        batch_size=feeding.batch_size if samples.may_batch else 1,
        num_workers=feeding.num_workers,
        pin_memory=on_cuda,
    )
    model.to(device)
    if on_cuda:  # as a training leaves it: kernels, and with them the rounding, may differ by the memory format
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with evaluating(model):
            for batch in loader:
                for name, protocol in protocols.items():
                    model.set_output_stride(protocol.output_stride or trained_stride)
                    start, size = time.monotonic(), samples.size_under(name, batch["extent"])
                    with torch.inference_mode(), repeatable_kernels(tf32=feeding.tf32):
                        labels = _labels(model, batch, size, protocol, feeding)
                    if on_cuda:
                        torch.cuda.synchronize(labels.device)  # for the clock; what follows needs the labels anyway
                    yield Predicted(name, batch, labels, time.monotonic() - start)
                done += len(batch["index"])
                on_progress(done, len(indices))
    finally:
        model.set_output_stride(trained_stride)


def predicted_images(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    feeding: Feeding,
    *,
    on_progress: Progress = silent,
) -> Iterator[tuple[str, Size, NDArray[np.integer[Any]]]]:
    """Predict every image of a data set under one protocol.

    Args:
        model: the network.
        dataset: the images.
        protocol: how.
        feeding: how the network is fed.
        on_progress: told (images done, images in all).

    Yields:
        An image's name, its (height, width), and its labels of that size.
    """
    passes = predictions(
        model, dataset, {"only": protocol}, feeding, indices=range(len(dataset)), on_progress=on_progress
    )
    with closing(passes):
        for predicted in passes:
            labels, extents = predicted.labels.cpu().numpy(), predicted.batch["extent"].tolist()
            for index, (height, width), found in zip(predicted.batch["index"].tolist(), extents, labels, strict=True):
                yield dataset.sample_id(index), (height, width), found[:height, :width]


def _labels(model: Segmenter, batch: Sample, size: Size, protocol: Protocol, feeding: Feeding) -> Tensor:
    preprocessing = Preprocessing.named(feeding.preprocessing_name)
    device = next(model.parameters()).device
    images = batch["image"][:, :, : size[0], : size[1]].to(device)
    extents = batch["extent"]
    with torch.autocast(device.type, dtype=feeding.autocast, enabled=feeding.autocast is not None):
        if protocol.tile is None:
            return predict(model, preprocessing.normalise(images, extents), protocol)

        def probabilities(rows: slice, columns: slice) -> Tensor:
            inside = extents - torch.tensor([rows.start, columns.start], dtype=extents.dtype)
            pixels = preprocessing.normalise(images[:, :, rows, columns], inside)
            return mean_probabilities(model, pixels, protocol)

        return tiled_labels(probabilities, size, tile=protocol.tile, overlap=protocol.overlap)
