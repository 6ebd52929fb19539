"""What `trainer` may say beyond ranges of numbers, and devices and batches, whose rule is in checks.py."""

from collections.abc import Iterator, Mapping
from typing import Any

NONFINITE = ("stop", "skip")
AUTO_OR_PYTORCH = ("auto", "pytorch")
RECOMPUTED = ("none", "maps", "units")  # as atrous.networks.activation_checkpointing, which loads torch


def trainer_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be in `trainer`, a line each: the key, its value and what would be right."""
    trainer = config["trainer"]
    if trainer["on_nonfinite"] not in NONFINITE:
        yield f"trainer.on_nonfinite={trainer['on_nonfinite']!r}: one of {', '.join(NONFINITE)}"
    for key in ("cpu_allocator", "cpu_kernels"):
        if trainer[key] not in AUTO_OR_PYTORCH:
            yield f"trainer.{key}={trainer[key]}: one of {', '.join(AUTO_OR_PYTORCH)}"
    if trainer["activation_checkpointing"] not in RECOMPUTED:
        yield f"trainer.activation_checkpointing={trainer['activation_checkpointing']}: one of {', '.join(RECOMPUTED)}"
    if trainer["activation_checkpointing"] != "units":
        return
    if trainer["compile"]:
        yield (
            "trainer.activation_checkpointing=units with trainer.compile=true: torch.compile decides by itself what to "
            "compute twice; use one of the two"
        )
    if str(config["backbone"]["_target_"]).endswith(".TimmBackbone"):
        yield "trainer.activation_checkpointing=units: timm's networks are built by timm; use another backbone, or maps"
