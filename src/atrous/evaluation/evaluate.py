"""The evaluation behind every number in a table: one process, every image once, scored at its own size."""

from collections.abc import Callable
from typing import Any

import torch

from atrous.data.dataset import SegmentationDataset
from atrous.data.loading import EvaluationSamples, evaluation_loader
from atrous.data.preprocessing import Preprocessing
from atrous.data.sampling import ShardSampler
from atrous.evaluation.inference import predict
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.scores import confusion_matrix, scores
from atrous.networks.segmenter import Segmenter


def evaluate(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    *,
    padded_size: tuple[int, int] | None,
    preprocessing_name: str,
    batch_size: int = 1,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score `model` on every image of `dataset`; the model's output stride is put back afterwards.

    Args:
        model: the network.
        dataset: the images.
        protocol: output stride, scales and flip.
        padded_size: what images are padded to, or None for the next k * output_stride + 1.
        preprocessing_name: how pixels are normalised.
        batch_size: images at a time; without effect on the result.
        num_workers: loader processes.
        device: where the network runs.
        autocast: dtype of automatic mixed precision, or None for float32.
        on_progress: told (images done, images in all) after every batch.

    Returns:
        The scores of `atrous.evaluation.scores.scores`, and `images`.
    """
    trained_stride = model.output_stride
    model.set_output_stride(protocol.output_stride or trained_stride)
    samples = EvaluationSamples(dataset=dataset, padded_size=padded_size, output_stride=model.output_stride)
    if padded_size is None and dataset.uniform_size is None:
        batch_size = 1
    loader = evaluation_loader(
        samples,
        ShardSampler(length=len(dataset)),
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=torch.device(device).type == "cuda",
    )
    matrix = confusion_matrix(dataset.spec.num_classes, ignore_label=dataset.spec.ignore_label, across_ranks=False)
    matrix.to(device)
    model.to(device).eval()
    preprocessing, images = Preprocessing.named(preprocessing_name), 0
    try:
        with torch.inference_mode():
            for batch in loader:
                pixels = preprocessing.normalise(batch["image"].to(device), batch["extent"])
                with torch.autocast(torch.device(device).type, dtype=autocast, enabled=autocast is not None):
                    labels = predict(model, pixels, protocol)
                matrix.update(labels, batch["label"].to(device))
                images += len(pixels)
                on_progress(images, len(dataset))
    finally:
        model.set_output_stride(trained_stride)
    return {**scores(matrix.compute().cpu().numpy(), dataset.spec.classes), "images": images}
