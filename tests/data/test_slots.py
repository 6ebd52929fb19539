"""Memory that is used again: never while anyone still looks at it, and again as soon as no one does."""

import errno
import gc
import mmap
import os
from pathlib import Path

import pytest
import torch

from atrous.data.augmentation import CropConfig
from atrous.data.loading import Sample, TrainSamples, train_loader
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.slots import Slots, SlotSampler
from atrous.data.voc import VOC2012

KEYS = ("image", "label", "extent", "index")


def slots(number: int = 2) -> Slots:
    return Slots(number=number, count=3, size=(5, 7))


def fill(memory: Slots, slot: int, value: int) -> None:
    batch = memory.fill(slot)
    for key in KEYS:
        batch[key].fill_(value)  # type: ignore[literal-required]


def taken(memory: Slots) -> int:
    slot = memory.take()
    assert slot is not None
    return slot


def test_a_slot_holds_a_batch_of_the_shapes_and_types_that_networks_get() -> None:
    batch = slots().open(1)
    assert [(tuple(batch[key].shape), batch[key].dtype) for key in KEYS] == [  # type: ignore[literal-required]
        ((3, 3, 5, 7), torch.uint8),
        ((3, 5, 7), torch.uint8),
        ((3, 2), torch.int32),
        ((3,), torch.int64),
    ]
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)


def test_a_kernel_without_huge_pages_does_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(mmap, "mmap", Memory)
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 14, raising=False)
    assert slots().open(0)["index"].shape == (3,)


def test_slots_and_their_parts_do_not_overlap() -> None:
    memory = slots()
    first, second = taken(memory), taken(memory)
    fill(memory, first, 1)
    fill(memory, second, 2)
    memory.fill(second)["index"].fill_(3)
    for slot, values in ((first, (1, 1, 1, 1)), (second, (2, 2, 2, 3))):
        batch = memory.open(slot)
        for key, value in zip(KEYS, values, strict=True):
            assert (batch[key] == value).all()  # type: ignore[literal-required]


@pytest.mark.parametrize("key", KEYS)
def test_a_slot_is_free_again_only_when_no_view_of_any_tensor_is_left(key: str) -> None:
    memory = slots(1)
    batch = memory.open(taken(memory))
    view = batch[key][:1].numpy()[:1]  # type: ignore[literal-required]
    del batch
    gc.collect()
    assert memory.take() is None
    del view
    gc.collect()
    assert memory.take() == 0


def test_slots_of_batches_that_never_arrived_are_free_in_the_next_pass() -> None:
    memory = slots(2)
    held = memory.open(taken(memory))
    lost = taken(memory)
    assert memory.take() is None
    memory.forget_awaited()
    assert (memory.take(), memory.take()) == (lost, None)
    assert held["index"].shape == (3,)


def test_where_no_slot_is_free_the_ticket_has_none() -> None:
    batches = KeyedBatchSampler(length=4, batch_size=2, max_steps=3)
    tickets = list(SlotSampler(batches, slots(2)))
    assert [ticket.slot is None for ticket in tickets] == [False, False, True]
    assert [ticket.items for ticket in tickets] == list(batches)


def copied(batch: Sample) -> list[torch.Tensor]:
    return [batch[key].clone() for key in KEYS]  # type: ignore[literal-required]


def test_batches_that_are_kept_never_change_and_more_than_the_slots_may_be_kept(voc_home: Path) -> None:
    samples = TrainSamples(
        dataset=VOC2012(root=voc_home, split="train"), augmentation=CropConfig(crop_size=(33, 49)), seed=0
    )
    sampler = KeyedBatchSampler(length=len(samples), batch_size=2, max_steps=40)
    kept, copies = [], []
    for batch in train_loader(samples, sampler, num_workers=2, pin_memory=False):
        kept.append(batch)
        copies.append(copied(batch))
    plain = [copied(batch) for batch in train_loader(samples, sampler, num_workers=0, pin_memory=False)]
    for batch, copy, expected in zip(kept, copies, plain, strict=True):
        assert all(map(torch.equal, copied(batch), copy))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(copy, expected, strict=True))


def test_a_pass_that_is_given_up_and_begun_again_yields_the_same_batches(voc_home: Path) -> None:
    samples = TrainSamples(
        dataset=VOC2012(root=voc_home, split="train"), augmentation=CropConfig(crop_size=(33, 49)), seed=0
    )
    sampler = KeyedBatchSampler(length=len(samples), batch_size=2, max_steps=12)
    loader = train_loader(samples, sampler, num_workers=2, pin_memory=False)
    whole = [copied(batch) for batch in loader]
    for _ in range(6):  # more often than there are slots to lose
        for step, batch in enumerate(loader):
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(copied(batch), whole[step], strict=True))
            if step == 2:
                break
    again = [copied(batch) for batch in loader]
    assert all(torch.equal(a, b) for one, two in zip(whole, again, strict=True) for a, b in zip(one, two, strict=True))
