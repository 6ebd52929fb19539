"""The loss against PyTorch's own upsampling and cross-entropy in float64."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from atrous.training import loss as loss_module
from atrous.training.loss import ImageCrossEntropy, nearest_labels, segmentation_loss, summed_cross_entropy

IGNORE = 255


def case(
    *, classes: int = 21, small: tuple[int, int] = (17, 13), large: tuple[int, int] = (65, 49)
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(3, classes, *small, generator=generator)
    labels = torch.randint(0, classes, (3, *large), generator=generator)
    labels[torch.rand(3, *large, generator=generator) < 0.2] = IGNORE
    labels[1] = IGNORE
    return logits, labels


def oracle(logits: Tensor, labels: Tensor, *, align_corners: bool) -> tuple[Tensor, Tensor]:
    exact = logits.double().detach().requires_grad_()
    upsampled = F.interpolate(exact, labels.shape[-2:], mode="bilinear", align_corners=align_corners)
    loss = F.cross_entropy(upsampled, labels, ignore_index=IGNORE)
    loss.backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    return loss.detach(), exact.grad


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("small", [(17, 13), (1, 1), (1, 9), (65, 49), (33, 49)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_loss_and_gradient_are_those_of_upsampling_and_cross_entropy(
    small: tuple[int, int], align_corners: bool, memory_format: torch.memory_format
) -> None:
    logits, labels = case(small=small)
    expected, expected_gradient = oracle(logits, labels, align_corners=align_corners)
    logits = logits.to(memory_format=memory_format).requires_grad_()
    loss = segmentation_loss(logits, labels, align_corners=align_corners)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert logits.grad is not None
    error = (logits.grad.double() - expected_gradient).abs().max()
    assert error < 1e-5 * expected_gradient.abs().max()


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The elements of the largest tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_holds_the_classes_of_even_one_image_at_label_resolution() -> None:
    logits, labels = case(large=(257, 129))
    with _Largest() as largest:  # type: ignore[no-untyped-call]
        segmentation_loss(logits.requires_grad_(), labels, align_corners=True).backward()  # type: ignore[no-untyped-call]
    assert largest.elements < 21 * 257 * 129
    with _Largest() as largest:  # type: ignore[no-untyped-call]
        oracle(logits, labels, align_corners=True)
    assert largest.elements == 3 * 21 * 257 * 129


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("small", [(17, 13), (1, 9), (33, 49)])
@pytest.mark.parametrize("few_bytes", [1, loss_module._GPU_BYTES])
def test_the_way_of_a_gpu_by_one_or_more_images_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, small: tuple[int, int], align_corners: bool, few_bytes: int
) -> None:
    monkeypatch.setattr(loss_module, "_GPU_BYTES", few_bytes)
    logits, labels = case(small=small)
    expected, expected_gradient = oracle(logits, labels, align_corners=align_corners)
    logits.requires_grad_()
    total = ImageCrossEntropy.apply(logits, labels, IGNORE, align_corners)  # type: ignore[no-untyped-call]
    loss = total / (labels != IGNORE).sum()
    loss.backward()
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-6, atol=0)
    assert logits.grad is not None
    error = (logits.grad.double() - expected_gradient).abs().max()
    assert error < 1e-5 * expected_gradient.abs().max()
    with torch.no_grad():
        assert ImageCrossEntropy.apply(logits, labels, IGNORE, align_corners) == total  # type: ignore[no-untyped-call]


def test_sizes_that_are_no_multiple_of_a_band_of_rows() -> None:
    for height in (1, 31, 32, 33, 97):
        logits, labels = case(classes=3, small=(9, 9), large=(height, 20))
        expected, _ = oracle(logits, labels, align_corners=True)
        torch.testing.assert_close(segmentation_loss(logits, labels).double(), expected, rtol=1e-6, atol=0)


def test_a_batch_without_valid_pixels_gives_zero_loss_and_gradient() -> None:
    logits, labels = case()
    labels[:] = IGNORE
    logits.requires_grad_()
    loss = segmentation_loss(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_gradient_of_the_sum_is_that_of_finite_differences() -> None:
    logits, labels = case(classes=4, small=(3, 4), large=(7, 9))
    exact = logits.double().requires_grad_()
    for align_corners in (True, False):
        assert torch.autograd.gradcheck(
            lambda x, aligned=align_corners: summed_cross_entropy(x, labels, align_corners=aligned), (exact,)
        )


def test_probabilities_that_vanish_in_float32_give_a_finite_loss() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 0] = 300.0
    loss = segmentation_loss(logits, torch.ones(1, 5, 5, dtype=torch.long))
    assert loss.item() == pytest.approx(300.0)


def test_autocast_does_not_lower_the_precision() -> None:
    logits, labels = case()
    expected, _ = oracle(logits, labels, align_corners=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = segmentation_loss(logits, labels)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


def test_half_precision_logits_get_a_half_precision_gradient() -> None:
    logits, labels = case()
    low = logits.bfloat16().requires_grad_()
    expected, expected_gradient = oracle(low, labels, align_corners=True)
    loss = segmentation_loss(low, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert low.grad is not None
    assert low.grad.dtype == torch.bfloat16
    torch.testing.assert_close(low.grad.double(), expected_gradient, rtol=1e-2, atol=1e-8)


def test_labels_of_eight_bits_count_like_those_of_64() -> None:
    logits, labels = case()
    assert torch.equal(segmentation_loss(logits, labels.to(torch.uint8)), segmentation_loss(logits, labels))


def test_a_label_beyond_the_classes_is_refused() -> None:
    logits, labels = case(classes=5)
    labels[0, 0, 0] = 5
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        segmentation_loss(logits, labels)


def test_without_upsampling_labels_are_taken_at_the_points_of_the_smaller_map() -> None:
    logits, labels = case(small=(17, 13), large=(65, 49))
    expected = F.cross_entropy(logits.double(), labels[:, ::4, ::4], ignore_index=IGNORE)
    loss = segmentation_loss(logits, labels, upsample_logits=False)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    assert torch.equal(nearest_labels(labels, (17, 13)), labels[:, ::4, ::4])
