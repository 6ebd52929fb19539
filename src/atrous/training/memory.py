"""An error that says that the memory is full, and what to lower."""

import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from atrous import full_memory
from atrous.hardware import is_memory_full, what_was_asked

_OF_A_WORKER = "killed by signal: Killed"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left, or that a loader's worker was killed."""
    return is_memory_full(error) or is_of_killed_worker(error)


def is_of_killed_worker(error: BaseException) -> bool:
    """Whether an error says that a loader's worker was killed, which is no fault of the run."""
    return bool(_killed_worker(error))


def advice(error: BaseException, config: Mapping[str, Any], *, has_killed: bool = False) -> str:
    """What happened and which keys would help, in the order in which they cost least.

    Args:
        error: of which `is_out_of_memory` is true.
        config: of the run.
        has_killed: whether the kernel has ended a process for lack of memory meanwhile.
    """
    if worker := _killed_worker(error):
        if has_killed:
            return f"{worker}: {full_memory.advice_for_worker(config)}"
        return f"{worker}, and the kernel tells of no full memory"
    is_evaluating = _was_evaluating(error.__traceback__)
    where = "an evaluation" if is_evaluating else "training"
    return (
        f"out of memory in {where} ({what_was_asked(error)}). {full_memory.advice(config, is_evaluating=is_evaluating)}"
    )


def _killed_worker(error: BaseException) -> str:
    """What PyTorch says of a loader's worker that was killed, by itself or as the cause of an error; else nothing."""
    said = [str(each).strip().rstrip(".") for each in (error, error.__cause__) if isinstance(each, RuntimeError)]
    return next((text for text in said if text.endswith(_OF_A_WORKER)), "")


def _was_evaluating(trace: TracebackType | None) -> bool:
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(trace)]
    return any(name.startswith("atrous.evaluation.") for name in names)
