"""What `trainer` may say: each mistake is told with its value and what would be right."""

from typing import Any, get_args

import pytest

from atrous.networks.activation_checkpointing import Recomputed
from atrous.studies.trainer_checks import RECOMPUTED, trainer_problems

RIGHT = {
    "on_nonfinite": "stop",
    "cpu_allocator": "auto",
    "cpu_kernels": "auto",
    "activation_checkpointing": "maps",
    "compile": False,
}
UNITS = {"activation_checkpointing": "units"}


def _problems(backbone: str = "atrous.networks.resnet.ResNet", **changed: Any) -> list[str]:
    return list(trainer_problems({"trainer": {**RIGHT, **changed}, "backbone": {"_target_": backbone}}))


@pytest.mark.parametrize("changed", [{}, UNITS, {"compile": True}, {"activation_checkpointing": "none"}])
def test_what_can_be_run_is_let_through(changed: dict[str, Any]) -> None:
    assert _problems(**changed) == []


@pytest.mark.counted
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"on_nonfinite": "ignore"}, ("trainer.on_nonfinite='ignore'", "stop, skip")),
        ({"cpu_allocator": "jemalloc"}, ("trainer.cpu_allocator=jemalloc", "one of auto, pytorch")),
        ({"cpu_kernels": "triton"}, ("trainer.cpu_kernels=triton", "one of auto, pytorch")),
        ({"activation_checkpointing": True}, ("activation_checkpointing=True", "none, maps, units")),
        ({**UNITS, "compile": True}, ("trainer.compile=true", "one of the two")),
        ({**UNITS, "backbone": "atrous.networks.timm_backbone.TimmBackbone"}, ("timm", "or maps")),
    ],
)
def test_what_cannot_be_run_is_told_with_what_would_be_right(changed: dict[str, Any], words: tuple[str, ...]) -> None:
    (problem,) = _problems(**changed)
    assert all(word in problem for word in words), problem


def test_the_words_of_activation_checkpointing_are_those_of_the_networks() -> None:
    assert get_args(Recomputed) == RECOMPUTED
