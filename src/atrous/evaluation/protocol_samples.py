"""What a loader reads for several protocols: every image once, padded far enough for each of them."""

from collections.abc import Mapping

from torch import Tensor

from atrous.data.dataset import SegmentationDataset
from atrous.data.loading import EvaluationSamples
from atrous.evaluation.protocol import Protocol, Size


class ProtocolSamples(EvaluationSamples):
    """Images padded for all protocols at once: padding is 0, so a protocol's own padding is a part of the largest.

    Attributes:
        may_batch: whether images of a batch are surely padded to one size.

    Args:
        dataset: the images.
        protocols: by name.
        stride: the output stride of protocols that name none.
        padded_size: of protocols that name none; None for the next k * output_stride + 1.
    """

    def __init__(
        self, *, dataset: SegmentationDataset, protocols: Mapping[str, Protocol], stride: int, padded_size: Size | None
    ) -> None:
        super().__init__(dataset=dataset)
        self._under = {
            name: EvaluationSamples(
                dataset=dataset,
                padded_size=_padded_size(protocol, padded_size),
                output_stride=protocol.output_stride or stride,
            )
            for name, protocol in protocols.items()
        }
        has_fixed_size = all(samples.padded_size is not None for samples in self._under.values())
        self.may_batch = has_fixed_size or dataset.uniform_size is not None

    def size_for(self, height: int, width: int) -> Size:
        """The largest padding, or the first that the image does not fit into, which is then refused."""
        sizes = [samples.size_for(height, width) for samples in self._under.values()]
        for size in sizes:
            if height > size[0] or width > size[1]:
                return size
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def size_under(self, name: str, extents: Tensor) -> Size:
        """The padded size of a batch under one protocol."""
        height, width = (int(side) for side in extents.amax(0))
        return self._under[name].size_for(height, width)


def _padded_size(protocol: Protocol, of_data: Size | None) -> Size | None:
    if not protocol.is_whole_image:
        return None
    return of_data if protocol.padded_size is None else (protocol.padded_size[0], protocol.padded_size[1])
