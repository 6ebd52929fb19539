"""Memory that loader processes share with the training process and use again, batch after batch.

Memory that is new for every batch costs about as much as decoding the images that go into it: the kernel clears each
page for the worker and maps it once more for the training process. Slots are mapped once, before the workers are
forked, and a slot is free again as soon as nothing refers to the batch that lies in it.
"""

import math
import mmap
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from atrous.data.samples import Sample, TrainSamples, empty_batch
from atrous.data.sampling import Item

_ALIGNMENT = 64  # bytes: a cache line, and enough for every dtype
_HUGE_PAGE = 2 << 20


class Ticket(NamedTuple):
    """What travels between the processes instead of pixels.

    Attributes:
        slot: where the batch lies, or None where no slot was free when it was asked for.
        items: what the batch consists of.
    """

    slot: int | None
    items: Sequence[Item]


class Slots:
    """Equal pieces of shared memory, one batch each.

    Args:
        number: how many pieces; memory that is never used is never occupied.
        count: crops of a batch.
        size: (height, width) of a crop, pixels.
    """

    def __init__(self, *, number: int, count: int, size: tuple[int, int]) -> None:
        self._count, self._size = count, size
        lengths = (8 * count, 2 * 4 * count, 3 * count * math.prod(size), count * math.prod(size))
        starts = np.cumsum([0, *(_rounded(length, _ALIGNMENT) for length in lengths)]).tolist()
        self._places = [slice(start, start + length) for start, length in zip(starts[:-1], lengths, strict=True)]
        self._bytes = _rounded(starts[-1], _HUGE_PAGE)
        # Anonymous memory: unlike /dev/shm, a container does not limit it to 64 MB.
        self._memory = mmap.mmap(-1, number * self._bytes)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a hint, which some kernels do not know
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._free = list(range(number))
        self._awaited: set[int] = set()

    def take(self) -> int | None:
        """Reserve the slot that became free last, whose memory is warm; None when all are in use."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._awaited.add(slot)
        return slot

    def forget_awaited(self) -> None:
        """Free the slots whose batches never arrived, because a pass was given up half way."""
        self._free.extend(self._awaited)
        self._awaited.clear()

    def open(self, slot: int) -> Sample:
        """Return the batch that lies in a slot; the slot is free again when nothing refers to its tensors any more."""
        memory = self._array(slot)
        self._awaited.discard(slot)
        weakref.finalize(memory, self._free.append, slot).atexit = False
        return self._batch(memory)

    def fill(self, slot: int) -> Sample:
        """Return the batch that is to be written to a slot, in a loader process."""
        return self._batch(self._array(slot))

    def _array(self, slot: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        return np.frombuffer(self._memory, np.uint8, self._bytes, slot * self._bytes)

    def _batch(self, memory: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> Sample:
        whole = torch.from_numpy(memory)  # views of it keep `memory` alive; views by numpy would not
        index, extent, image, label = (whole[place] for place in self._places)
        return Sample(
            image=image.view(self._count, *self._size, 3).permute(0, 3, 1, 2),
            label=label.view(self._count, *self._size),
            extent=extent.view(torch.int32).view(self._count, 2),
            index=index.view(torch.int64),
        )


class SlotSampler(Sampler[Ticket]):
    """Batches of a sampler, each with the slot that it is to be written to.

    Args:
        batches: yields the batches' items.
        slots: the memory.
    """

    def __init__(self, batches: Sampler[list[Item]], slots: Slots) -> None:
        self._batches, self._slots = batches, slots

    def __len__(self) -> int:
        """Batches, as the sampler counts them."""
        return len(self._batches)  # type: ignore[arg-type]  # batch samplers have a length

    def __iter__(self) -> Iterator[Ticket]:
        """Yield tickets; runs in the training process, as far ahead as batches are prefetched."""
        self._slots.forget_awaited()
        for items in self._batches:
            yield Ticket(self._slots.take(), items)


class SlotSamples(Dataset[Sample]):
    """Training crops that are written to slots.

    Args:
        samples: the crops.
        slots: the memory.
    """

    def __init__(self, samples: TrainSamples, slots: Slots) -> None:
        self.samples, self._slots = samples, slots

    def __len__(self) -> int:
        """Images per epoch."""
        return len(self.samples)

    def __getitems__(self, ticket: Ticket) -> Sample | int:
        """Write a batch to its slot and return the slot's number, or the batch itself where there is no slot."""
        if ticket.slot is None:
            return self.samples.fill(ticket.items, empty_batch(len(ticket.items), self.samples.augmentation.crop_size))
        self.samples.fill(ticket.items, self._slots.fill(ticket.slot))
        return ticket.slot


def _rounded(length: int, unit: int) -> int:
    return -(-length // unit) * unit
