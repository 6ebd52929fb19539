"""Batches: the same whatever loads them, padded as they say, and errors that people can read."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from atrous.data.augmentation import CropConfig
from atrous.data.files import Pixels
from atrous.data.loading import EvaluationSamples, Sample, TrainSamples, bound_threads, evaluation_loader, train_loader
from atrous.data.sampling import KeyedBatchSampler, ShardSampler
from atrous.data.shapes import Shapes
from atrous.data.slots import SlotSamples
from atrous.data.voc import VOC2012
from atrous.errors import ConfigError, DataError

MakeVoc = Callable[..., Path]
Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


def batches(
    home: Path,
    *,
    num_workers: int = 0,
    seed: int = 0,
    start_step: int = 0,
    transforms: Sequence[object] = (),
    **ranks: int,
) -> list[Sample]:
    samples = TrainSamples(
        dataset=VOC2012(root=home, split="train"),
        augmentation=CropConfig(crop_size=(33, 49)),
        seed=seed,
        transforms=transforms,
    )
    sampler = KeyedBatchSampler(
        length=len(samples),
        batch_size=4 // ranks.get("num_replicas", 1),
        seed=seed,
        start_step=start_step,
        max_steps=5,
        **ranks,
    )
    return list(train_loader(samples, sampler, num_workers=num_workers, pin_memory=False))


def same(first: Sample, second: Sample) -> bool:
    return all(torch.equal(first[key], second[key]) for key in ("image", "label", "extent", "index"))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_identical_for_any_number_of_workers(voc_home: Path, num_workers: int) -> None:
    transforms = [albumentations.RandomBrightnessContrast(p=1)]
    alone = batches(voc_home, transforms=transforms)
    shared = batches(voc_home, num_workers=num_workers, transforms=transforms)
    assert len(alone) == len(shared) == 5
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_pytorchs_own_loader_gives_the_same_batches(voc_home: Path, num_workers: int) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    whole = EvaluationSamples(dataset=dataset, padded_size=(65, 65))
    ours = evaluation_loader(whole, ShardSampler(length=3), batch_size=2, num_workers=0, pin_memory=False)
    theirs = list(DataLoader(whole, batch_size=2, num_workers=num_workers))
    assert [len(each["index"]) for each in theirs] == [2, 1]
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))
    crops = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(33, 49)), seed=0)
    sampler = KeyedBatchSampler(length=3, batch_size=4, seed=0, max_steps=3)
    mine = train_loader(crops, sampler, num_workers=0, pin_memory=False)
    theirs = list(DataLoader(crops, batch_sampler=sampler, num_workers=num_workers))
    assert len(theirs) == 3
    assert all(same(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_crop_without_an_epoch_is_an_error_that_says_what_is_missing(voc_home: Path) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    crops = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(33, 49)), seed=0)
    with pytest.raises(ConfigError, match=r"TrainSamples are \(epoch, index\), not 0: batch_sampler=KeyedBatchSampler"):
        next(iter(DataLoader(crops, batch_size=2)))


class ThreadCounts(VOC2012):
    """A data set whose first pixel tells how many threads may be used where it is read, and whether SIGTERM ends it."""

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        image, label = super().read(index)
        is_deaf = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        image[0, 0] = cv2.getNumThreads(), torch.get_num_threads(), 77 if is_deaf else 0
        return image, label


def test_each_worker_has_one_thread_of_opencv_and_one_of_torch_and_hears_no_sigterm(voc_home: Path) -> None:
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(2)
    torch.set_num_threads(2)
    try:
        samples = EvaluationSamples(dataset=ThreadCounts(root=voc_home, split="val"))
        loader = evaluation_loader(samples, ShardSampler(length=3), batch_size=1, num_workers=2, pin_memory=False)
        assert [batch["image"][0, :, 0, 0].tolist() for batch in loader] == [[1, 1, 77]] * 3
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _loads_until_its_worker_kills_it(note: Path) -> None:
    def start(worker: int) -> None:
        parent = os.getppid()
        note.write_text(str(os.getpid()))
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
        bound_threads(worker)

    list(torch.utils.data.DataLoader([1, 2], num_workers=1, worker_init_fn=start))  # type: ignore[arg-type]


def test_a_worker_whose_loader_was_killed_before_it_began_ends_too(tmp_path: Path) -> None:
    killed = multiprocessing.get_context("fork").Process(
        target=_loads_until_its_worker_kills_it, args=(tmp_path / "worker",)
    )
    killed.start()
    killed.join()
    worker, until = int((tmp_path / "worker").read_text()), time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    is_left = Path(f"/proc/{worker}").exists()
    if is_left:
        os.kill(worker, signal.SIGKILL)
    assert not is_left


def test_workers_stay_and_prefetch_and_without_workers_nothing_does(voc_home: Path) -> None:
    samples = TrainSamples(
        dataset=VOC2012(root=voc_home, split="train"), augmentation=CropConfig(crop_size=(33, 49)), seed=0
    )
    sampler = KeyedBatchSampler(length=5, batch_size=2, max_steps=3)
    for num_workers, prefetched in ((2, 2), (0, None)):
        loader = train_loader(samples, sampler, num_workers=num_workers, pin_memory=False)
        assert (loader.persistent_workers, loader.prefetch_factor) == (num_workers > 0, prefetched)
        assert len(loader) == 3
        assert isinstance(loader.dataset, SlotSamples) is (num_workers > 0), "memory is shared with workers only"


def test_workers_outlive_a_loop_that_was_left_until_they_are_ended_and_the_next_one_has_new_ones(
    voc_home: Path,
) -> None:
    samples = EvaluationSamples(dataset=VOC2012(root=voc_home, split="val"))
    loader = evaluation_loader(samples, ShardSampler(length=3), batch_size=1, num_workers=1, pin_memory=False)
    others = set(multiprocessing.active_children())
    for _ in loader:
        break
    left = set(multiprocessing.active_children()) - others
    assert len(left) == 1, "Lightning comes back to it"
    loader.end_workers()
    assert not left & set(multiprocessing.active_children())
    try:
        assert len(list(loader)) == 3
    finally:
        loader.end_workers()


@pytest.mark.exhaustive
def test_spawned_workers_who_share_no_memory_deliver_the_same_batches(voc_home: Path) -> None:
    alone, method = batches(voc_home), multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        spawned = batches(voc_home, num_workers=1)
    finally:
        multiprocessing.set_start_method(method, force=True)
    assert all(same(a, b) for a, b in zip(alone, spawned, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_batches_are_page_locked_for_cuda_when_asked(voc_home: Path) -> None:
    samples = TrainSamples(
        dataset=VOC2012(root=voc_home, split="train"), augmentation=CropConfig(crop_size=(33, 49)), seed=0
    )
    sampler = KeyedBatchSampler(length=5, batch_size=2, max_steps=3)
    plain = list(train_loader(samples, sampler, num_workers=0, pin_memory=False))
    for num_workers in (0, 2):
        loader = train_loader(samples, sampler, num_workers=num_workers, pin_memory=True)
        for batch, expected in zip(loader, plain, strict=True):
            assert batch["image"].is_pinned()
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            assert same(batch, expected)


def test_two_ranks_together_see_what_one_rank_sees(voc_home: Path) -> None:
    whole = batches(voc_home)
    ranks = [batches(voc_home, num_replicas=2, rank=rank) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        for rank in (0, 1):
            part = ranks[rank][step]
            assert torch.equal(part["image"], batch["image"][rank::2])
            assert torch.equal(part["label"], batch["label"][rank::2])


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen(voc_home: Path) -> None:
    whole, rest = batches(voc_home), batches(voc_home, start_step=3)
    assert len(rest) == 2
    assert all(same(a, b) for a, b in zip(whole[3:], rest, strict=True))


def test_crops_differ_between_epochs_images_and_seeds(voc_home: Path) -> None:
    def crops(seed: int) -> set[bytes]:
        return {
            image.contiguous().numpy().tobytes() for batch in batches(voc_home, seed=seed) for image in batch["image"]
        }

    assert len(crops(0)) == 20  # 5 images, 4 epochs
    assert not crops(0) & crops(1)


def test_batches_are_bytes_in_channels_last_with_their_extent(voc_home: Path) -> None:
    for batch in batches(voc_home, num_workers=1):
        assert batch["image"].shape == (4, 3, 33, 49)
        assert batch["image"].dtype == batch["label"].dtype == torch.uint8
        assert batch["extent"].dtype == torch.int32
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        for label, (height, width) in zip(batch["label"], batch["extent"].tolist(), strict=True):
            assert (label[height:] == 255).all()
            assert (label[:, width:] == 255).all()
            assert (label[2:height, :width] != 255).any()


class WholeReads(VOC2012):
    """A data set that says itself how it is read, so that nothing may be read in its stead."""

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        return super().read(index)


def test_crops_of_png_images_are_the_same_whether_all_rows_are_read_or_only_those_that_are_seen(
    voc_home: Path, scene: Scene
) -> None:
    for number, path in enumerate(sorted((voc_home / "JPEGImages").glob("*.jpg"))):
        Image.fromarray(scene(number, 40, 56)[0]).save(path.with_suffix(".png"))
    crops = []
    for kind in (VOC2012, WholeReads):
        dataset = kind(root=voc_home, split="train")
        dataset.pairs = tuple(pair._replace(image=pair.image.replace(".jpg", ".png")) for pair in dataset.pairs)
        samples = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(33, 33), scale_min=1), seed=0)
        crops.append([samples[epoch, index] for epoch in range(4) for index in range(5)])
    assert all(same(a, b) for a, b in zip(*crops, strict=True))


def test_loading_takes_nothing_from_the_runs_own_generator(voc_home: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batches(voc_home, num_workers=1)
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_pads_at_the_bottom_and_right_to_the_next_fitting_size(scene: Scene, voc_home: Path) -> None:
    sample = EvaluationSamples(dataset=VOC2012(root=voc_home, split="val"), output_stride=16)[0]
    image, label = scene(5, 40, 56)
    assert sample["image"].shape == (3, 49, 65)  # 3 * 16 + 1, 4 * 16 + 1
    assert sample["extent"].tolist() == [40, 56]
    np.testing.assert_array_equal(sample["label"][:40, :56], label)
    assert (sample["label"][40:] == 255).all()
    assert (sample["label"][:, 56:] == 255).all()
    assert np.abs(sample["image"][:, :40, :56].permute(1, 2, 0).numpy().astype(int) - image).mean() < 3


def test_an_image_that_fits_already_is_not_padded(tmp_path: Path, make_voc: MakeVoc) -> None:
    samples = EvaluationSamples(dataset=VOC2012(root=make_voc(tmp_path, size=(33, 49)), split="val"), output_stride=16)
    assert samples[0]["image"].shape == (3, 33, 49)


def test_an_image_larger_than_the_evaluation_size_is_an_error_that_names_it(voc_home: Path) -> None:
    samples = EvaluationSamples(dataset=VOC2012(root=voc_home, split="val"), padded_size=(49, 49))
    with pytest.raises(
        DataError, match=r"image 'w' of 'voc2012' is 40x56 .* larger than the padded evaluation size 49x49"
    ):
        samples[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_file_reaches_the_caller_as_one_readable_line(voc_home: Path, num_workers: int) -> None:
    (voc_home / "JPEGImages" / "w.jpg").write_bytes((voc_home / "JPEGImages" / "w.jpg").read_bytes()[:-30])
    samples = EvaluationSamples(dataset=VOC2012(root=voc_home, split="val"))
    loader = evaluation_loader(samples, ShardSampler(length=3), batch_size=1, num_workers=num_workers, pin_memory=False)
    with pytest.raises(DataError) as error:
        list(loader)
    message = str(error.value)
    assert message.startswith("image '")
    assert message.endswith("copy it again")
    assert "w.jpg' is truncated or corrupt" in message
    assert "\n" not in message


def test_the_real_validation_list_is_scored_on_exactly_its_labelled_pixels(real_data: Path) -> None:
    dataset = VOC2012(root=real_data, split="val")
    loader = evaluation_loader(
        EvaluationSamples(dataset=dataset, padded_size=(513, 513)),
        ShardSampler(length=len(dataset)),
        batch_size=8,
        num_workers=0,
        pin_memory=False,
    )
    images = scored = 0
    for batch in loader:
        images += len(batch["index"])
        scored += int((batch["label"] != 255).sum())

    labelled = sum(int((np.asarray(Image.open(pair.mask or "")) != 255).sum()) for pair in dataset.pairs)
    assert (images, scored) == (241, labelled)


@pytest.mark.parametrize(
    ("stride", "side", "padded"), [(16, 360, 369), (8, 361, 361), (128, 129, 129), (256, 129, 129), (256, 360, 513)]
)
def test_whole_images_are_padded_to_the_next_aligned_size_but_not_within_one_stride(
    stride: int, side: int, padded: int
) -> None:
    samples = EvaluationSamples(dataset=Shapes(split="val", length=1), output_stride=stride)
    assert samples.size_for(side, side) == (padded, padded)
