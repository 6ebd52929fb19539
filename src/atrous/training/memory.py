"""What to lower when the memory is full."""

import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import torch

from atrous.hardware import device_type
from atrous.training import machine

Config = Mapping[str, Any]
# torch.OutOfMemoryError has this name since torch 2.5 only; the CPU's allocator raises a plain RuntimeError.
_SENTENCES = 2  # of an error's text
_OF_THE_CPU = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in _OF_THE_CPU)


def advice(error: BaseException, config: Config) -> str:
    """What happened and which keys would help, in the order in which they cost least.

    Args:
        error: of which `is_out_of_memory` is true.
        config: of the run.
    """
    # CUDA goes on about every other process on the device: what was asked for stands in the second sentence.
    sentences = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")
    what = ". ".join(sentences[:_SENTENCES]).rstrip(".")
    if _was_evaluating(error.__traceback__):
        lower = list(_for_evaluation(config))
        where = "an evaluation"
    else:
        lower = list(_for_training(config))
        where = "training"
    return f"out of memory in {where} ({what}). Lower what is in memory at once: {'; or '.join(lower)}"


def _was_evaluating(trace: TracebackType | None) -> bool:
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(trace)]
    return any(name.startswith("atrous.evaluation.") for name in names)


def _for_evaluation(config: Config) -> Iterator[str]:
    size = config["data"]["val_batch_size"]
    if size > 1:
        yield f"data.val_batch_size={max(1, size // 2)} (now {size})"
    yield "a protocol with fewer scales, or with tiles (conf/protocol)"


def _for_training(config: Config) -> Iterator[str]:
    recipe, trainer = config["recipe"], config["trainer"]
    ranks, accumulate, size = trainer["nodes"] * trainer["devices"], trainer["accumulate"], recipe["batch_size"]
    if trainer["activation_checkpointing"] != "units":
        yield "trainer.activation_checkpointing=units (the same numbers, more time)"
    precision = machine.resolve_precision(recipe["precision"], device_type(trainer["accelerator"]))
    if precision not in ("bf16-mixed", "16-mixed"):
        yield f"recipe.precision=bf16-mixed (now {precision})"
    fits = [parts for parts in range(accumulate + 1, size + 1) if size % (parts * ranks) == 0 and size > parts * ranks]
    if fits:
        yield f"trainer.accumulate={fits[0]} (now {accumulate}; batch norm then sees {size // fits[0]} images at once)"
    elif size > 2 * ranks:
        yield f"recipe.batch_size={max(2 * ranks, size // 2 // ranks * ranks)} (now {size})"
    stride, crop = config["output_stride"], recipe["crop_size"]
    smaller = max(1, int(crop * 0.75) // stride) * stride + 1
    if 17 <= smaller < crop:
        yield f"recipe.crop_size={smaller} (now {crop})"
