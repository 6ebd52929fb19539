"""From an image to labels at its own size: the network's own logits, whatever the form, the size and the batch."""

from __future__ import annotations

import copy
import io
import os
import pickle
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from atrous.data.preprocessing import INCEPTION, Preprocessing
from atrous.errors import ConfigError, DataError
from atrous.evaluation.inference import mean_probabilities
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.tiles import tiled_labels
from atrous.networks.segmenter import Segmenter
from atrous.prediction import Description, Predictor
from atrous.prediction.predictor import AnyImage

from .conftest import scene


@pytest.fixture(scope="module")
def predictor(network: Segmenter, description: Description) -> Predictor:
    return Predictor(network=network, description=description, precision="float32", device="cpu")


@torch.no_grad()
def _expected(network: Segmenter, image: np.ndarray[Any, Any]) -> torch.Tensor:
    """Probabilities [H, W, classes] by hand: x * 2/255 - 1, padded with 0 to k * 16 + 1."""
    height, width = image.shape[:2]
    x = torch.from_numpy(image.astype(np.float32) * (2 / 255) - 1).permute(2, 0, 1)[None]
    x = F.pad(x, (0, -(width - 1) % 16, 0, -(height - 1) % 16))
    probabilities: torch.Tensor = network(x).softmax(1)[0, :, :height, :width].permute(1, 2, 0)
    return probabilities


@pytest.mark.parametrize("size", [(60, 90), (65, 65), (121, 200)])
def test_labels_and_probabilities_are_the_networks_at_the_images_own_size(
    predictor: Predictor, network: Segmenter, size: tuple[int, int]
) -> None:
    image = scene(*size)
    prediction, expected = predictor.predict(image), _expected(network, image)
    assert prediction.labels.shape == size
    assert prediction.labels.dtype == np.uint8
    np.testing.assert_array_equal(prediction.labels, expected.argmax(-1).numpy())
    np.testing.assert_allclose(prediction.probabilities, expected.numpy(), atol=1e-5)
    assert len(np.unique(prediction.labels)) > 1


def test_a_path_an_image_and_an_array_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    image = scene(50, 70)
    Image.fromarray(image).save(tmp_path / "image.png")
    forms: list[AnyImage] = [image, Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")]
    labels = [predictor.predict(form).labels for form in forms]
    for each in labels[1:]:
        np.testing.assert_array_equal(each, labels[0])


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_photo_that_was_stored_on_its_side_is_predicted_upright(
    predictor: Predictor, tmp_path: Path, suffix: str
) -> None:
    exif, path = Image.Exif(), tmp_path / f"photo.{suffix}"
    exif[0x0112] = 6  # stored turned to the left
    Image.fromarray(np.rot90(scene(50, 70))).save(path, exif=exif, quality=95)
    predictions = [predictor.predict(path), predictor.predict(Image.open(path))]
    for prediction in predictions:
        assert prediction.labels.shape == (50, 70)
        difference = np.abs(prediction.image.astype(int) - scene(50, 70))
        assert difference.mean() < (0.01 if suffix in ("png", "tif") else 20)
    assert np.mean(predictions[0].labels == predictions[1].labels) > 0.97


def test_a_damaged_exif_leaves_a_photo_as_it_is_stored(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(scene(50, 70)).save(tmp_path / "photo.jpg", exif=b"Exif\0\0no such thing")
    for form in (tmp_path / "photo.jpg", Image.open(tmp_path / "photo.jpg")):
        assert predictor.predict(form).labels.shape == (50, 70)


def test_an_image_is_predicted_alike_alone_and_in_a_batch(predictor: Predictor) -> None:
    images = [scene(60, 90, seed=0), scene(58, 82, seed=1), scene(64, 97, seed=2)]
    together = predictor.predict_batch(images, protocol="ms_flip_os16")
    for image, prediction in zip(images, together, strict=True):
        alone = predictor.predict(image, protocol="ms_flip_os16")
        np.testing.assert_array_equal(alone.labels, prediction.labels)
        np.testing.assert_allclose(alone.probabilities, prediction.probabilities, atol=1e-6)


def test_the_output_stride_of_a_protocol_is_put_back(predictor: Predictor) -> None:
    image = scene(60, 90)
    first, dense = predictor.predict(image), predictor.predict(image, protocol="single_os8")
    assert predictor.network.output_stride == 16
    assert (first.labels != dense.labels).any()
    np.testing.assert_array_equal(predictor.predict(image).labels, first.labels)


def test_threads_that_share_a_predictor_have_the_output_strides_of_their_own_protocols(
    network: Segmenter, description: Description
) -> None:
    predictor = Predictor(network=network, description=description, precision="float32", device="cpu")
    protocols, image = ("single", "single_os8"), scene(60, 90)
    alone = [predictor.predict(image, protocol=protocol).labels for protocol in protocols]
    predictor.network.backbone.register_forward_pre_hook(lambda *_: time.sleep(0.1))  # the others begin
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda protocol: predictor.predict(image, protocol=protocol).labels, protocols))
    for labels, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it has threads, from Python 3.12 on
def test_a_fork_predicts_at_its_own_output_stride_while_another_thread_of_its_parent_predicts(
    network: Segmenter, description: Description
) -> None:
    predictor = Predictor(network=network, description=description, precision="float32", device="cpu")
    image, inside, go_on = scene(60, 90), threading.Event(), threading.Event()
    expected = predictor.predict(image).labels

    def held(*_: Any) -> None:
        inside.set()
        go_on.wait(60)

    hook = predictor.network.backbone.register_forward_pre_hook(held)
    with ThreadPoolExecutor(1) as other:
        busy = other.submit(predictor.predict, image, protocol="single_os8")
        assert inside.wait(60)
        child = os.fork()
        if child == 0:
            hook.remove()
            torch.set_num_threads(1)
            os._exit(not np.array_equal(predictor.predict(image).labels, expected))
        end, done = time.monotonic() + 30, (0, 0)
        while done == (0, 0) and time.monotonic() < end:
            time.sleep(0.05)
            done = os.waitpid(child, os.WNOHANG)
        if done == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        go_on.set()
        busy.result()
    assert done == (child, 0)


def test_the_network_that_is_given_is_not_moved(
    network: Segmenter, description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[torch.nn.Module] = []
    plain = torch.nn.Module.to

    def noted(module: torch.nn.Module, *to: Any, **options: Any) -> Any:
        moved.append(module)
        return plain(module, *to, **options)

    monkeypatch.setattr(torch.nn.Module, "to", noted)
    predictor = Predictor(network=network, description=description, device="cpu")
    assert any(module is predictor.network for module in moved)
    assert not any(module is network for module in moved)


def test_one_tile_over_everything_is_the_whole_image(predictor: Predictor) -> None:
    image = scene(60, 90)
    tiled = predictor.predict(image, protocol=Protocol(tile=(257, 257), overlap=32))
    np.testing.assert_array_equal(tiled.labels, predictor.predict(image).labels)
    with pytest.raises(ConfigError, match="tiles"):
        _ = tiled.probabilities


def test_tiles_are_made_floats_one_by_one_and_have_the_labels_of_the_image_made_floats_at_once(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, protocol = scene(140, 190), Protocol(tile=(65, 97), overlap=16)
    height, width = predictor.padded_size(image, protocol)
    padded = np.zeros((1, height, width, 3), np.uint8)
    padded[0, :140, :190] = image
    whole = INCEPTION.normalise(torch.from_numpy(padded).permute(0, 3, 1, 2), torch.tensor([[140, 190]]))
    with torch.inference_mode():
        expected = tiled_labels(
            lambda rows, columns: mean_probabilities(predictor.network, whole[..., rows, columns], protocol),
            (height, width),
            tile=(65, 97),
            overlap=16,
        )
    plain, sizes = Preprocessing.normalise, set()

    def noted(self: Preprocessing, images: torch.Tensor, extents: torch.Tensor) -> torch.Tensor:
        sizes.add(tuple(images.shape[-2:]))
        return plain(self, images, extents)

    monkeypatch.setattr(Preprocessing, "normalise", noted)
    np.testing.assert_array_equal(predictor.predict(image, protocol=protocol).labels, expected[0, :140, :190])
    assert sizes == {(65, 97)}


def test_shares_overlay_and_names_belong_to_the_labels(predictor: Predictor) -> None:
    image = scene(60, 90)
    prediction = predictor.predict(image)
    shares = prediction.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    for name, share in shares.items():
        assert share == np.mean(prediction.labels == prediction.classes.index(name))
    assert prediction.overlay().shape == image.shape
    assert prediction.overlay().dtype == np.uint8
    assert (prediction.overlay() != image).any()
    assert len(prediction.palette) == len(prediction.classes) == 11


def test_images_that_fit_are_padded_to_the_evaluations_size(network: Segmenter, description: Description) -> None:
    from dataclasses import replace

    predictor = Predictor(network=network, description=replace(description, padded_size=(129, 129)), device="cpu")
    assert predictor.padded_size(scene(60, 90), Protocol()) == (129, 129)
    assert predictor.padded_size(scene(140, 90), Protocol()) == (145, 97)
    assert predictor.padded_size(scene(140, 90), Protocol(output_stride=8)) == (145, 97)
    assert predictor.padded_size(scene(138, 7), Protocol(output_stride=8)) == (145, 7)  # as an evaluation has it


def test_bfloat16_finds_nearly_the_same_labels(network: Segmenter, description: Description) -> None:
    exact, fast = (
        Predictor(network=network, description=description, precision=precision, device="cpu")
        for precision in ("float32", "bf16")
    )
    image = scene(129, 129)
    labels = fast.predict(image).labels
    assert np.mean(exact.predict(image).labels == labels) > 0.97
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):  # noqa: S301  # our own
        np.testing.assert_array_equal(again.predict(image).labels, labels)


def test_what_is_no_image_is_refused(predictor: Predictor, network: Segmenter, description: Description) -> None:
    with pytest.raises(DataError, match=r"float32 \[4, 4, 3\]; expected uint8 RGB"):
        predictor.predict(np.zeros((4, 4, 3), np.float32))
    for mode in ("I;16", "I", "F"):
        with pytest.raises(DataError, match=rf"mode {mode}, more than 8 bits per channel"):
            predictor.predict(Image.new(mode, (40, 40)))
    with pytest.raises(DataError, match=r"nothere\.png"):
        predictor.predict("nothere.png")
    with pytest.raises(ConfigError, match=r"precision='int8'.*float32"):
        Predictor(network=network, description=description, precision="int8")


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((4, 5, 3), np.float32), r"float32 \[4, 5, 3\]"),
        (np.zeros((4, 5, 3), np.uint16), r"uint16 \[4, 5, 3\]"),
        (np.zeros((4, 5, 3), bool), r"bool \[4, 5, 3\]"),
        (np.zeros((4, 5), np.uint8), r"uint8 \[4, 5\]"),
        (np.zeros((4, 5, 1), np.uint8), r"uint8 \[4, 5, 1\]"),
        (np.zeros((4, 5, 4), np.uint8), r"uint8 \[4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 \[0, 5, 3\]"),
        (np.zeros((4, 0, 3), np.uint8), r"uint8 \[4, 0, 3\]"),
        (None, "a NoneType"),
        ([[1, 2]], "a list"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "a Tensor"),
    ],
)
def test_what_is_no_image_is_refused_alone_and_in_a_batch(predictor: Predictor, image: Any, found: str) -> None:
    expected = rf"^image is {found}; expected .*uint8 RGB \[height, width, 3\]"
    with pytest.raises(DataError, match=expected):
        predictor.predict(image)
    with pytest.raises(DataError, match=expected):
        predictor.predict_batch([scene(40, 50), image])


def test_a_pil_image_without_pixels_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"uint8 \[5, 0, 3\]; expected"):
        predictor.predict(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("protocol", [None, 8])
def test_what_is_no_protocol_is_refused(predictor: Predictor, protocol: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^protocol={protocol}: a Protocol, or the name of one"):
        predictor.predict(scene(40, 50), protocol=protocol)


def test_a_batch_can_be_a_generator(predictor: Predictor) -> None:
    images = [scene(40, 50), scene(39, 51)]
    batches = [predictor.predict_batch(given) for given in (images, (image for image in images))]
    for listed, generated in zip(*batches, strict=True):
        np.testing.assert_array_equal(generated.labels, listed.labels)


def test_a_batch_of_no_image_or_of_several_sizes_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="images is empty; expected at least one"):
        predictor.predict_batch([])
    with pytest.raises(
        DataError, match=r"images\[0\] is padded to \[65, 97\] and images\[2\] to \[33, 97\] .*one by one"
    ):
        predictor.predict_batch([scene(60, 90), scene(58, 82), scene(20, 90)])


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_pil_image_of_a_file_that_is_cut_off_is_an_error_that_names_it(
    predictor: Predictor, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(scene(60, 90)).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=rf"image '.*cut\.{suffix}' cannot be read \(.*\); its file is truncated"):
        predictor.predict(Image.open(path))
    with pytest.raises(DataError, match=r"^image cannot be read \(.*\); its file is truncated"):
        predictor.predict(Image.open(io.BytesIO(path.read_bytes())))


def test_float32_is_exact_on_cuda_too(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain = [], predictor.network.low_resolution_logits

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return plain(x)

    monkeypatch.setattr(predictor.network, "low_resolution_logits", noted)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's own default
    predictor.predict(scene(40, 50))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 is True


def test_a_padded_size_is_not_taken_at_the_stride_of_another_threads_prediction(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, plain = scene(40, 50), predictor.network.low_resolution_logits
    alone, protocol = predictor.padded_size(image, Protocol()), Protocol(output_stride=8)
    assert alone != predictor.padded_size(image, protocol)
    with ThreadPoolExecutor(1) as other:

        def asked(x: torch.Tensor) -> torch.Tensor:
            seen.append(other.submit(predictor.padded_size, image, Protocol()))
            wait(seen, timeout=0.2)
            return plain(x)

        seen: list[Future[tuple[int, int]]] = []
        monkeypatch.setattr(predictor.network, "low_resolution_logits", asked)
        predictor.predict(image, protocol=protocol)
        assert [future.result() for future in seen] == [alone]
