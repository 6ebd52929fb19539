"""What the machine can do, told from what it says of itself."""

import platform
import re
from pathlib import Path

import pytest
import torch

from atrous import hardware
from atrous.errors import ConfigError


@pytest.mark.parametrize(
    ("accelerator", "has_cuda", "device"),
    [
        ("cpu", True, "cpu"),
        ("gpu", False, "cuda"),
        ("cuda", True, "cuda"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
    ],
)
def test_the_device_of_an_accelerator(
    accelerator: str, has_cuda: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert hardware.device_type(accelerator) == device


@pytest.mark.parametrize(
    ("accelerator", "words"),
    [
        ("nonsense", "accelerator='nonsense': one of auto, cpu, gpu, cuda"),
        ("gpu", "accelerator='gpu', but PyTorch finds no GPU here: accelerator=cpu or accelerator=auto"),
        ("cuda", "accelerator='cuda', but PyTorch finds no GPU here"),
    ],
)
def test_a_device_that_is_not_there_is_refused(accelerator: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=re.escape(words)):
        hardware.require_device(accelerator, key="accelerator")


def test_a_name_that_no_device_has_is_never_taken_for_the_cpu() -> None:
    with pytest.raises(ConfigError, match="device='nonsense': one of auto, cpu, gpu, cuda"):
        hardware.device_type("nonsense")


@pytest.mark.parametrize(("flags", "has"), [("sse avx512f", False), ("sse avx512_bf16", True), ("amx_bf16", True)])
def test_a_cpu_has_bf16_where_its_flags_say_so(flags: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(Path, "is_file", lambda _path: True)
    monkeypatch.setattr(Path, "read_text", lambda _path: f"flags : {flags}\n")
    assert hardware.has_bf16("cpu") is has


def test_repeatable_kernels_are_chosen_without_a_trial_and_what_was_set_is_put_back() -> None:
    def flags() -> tuple[bool, ...]:
        cudnn = torch.backends.cudnn
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = flags()
    for tf32 in (False, True):
        with hardware.repeatable_kernels(tf32=tf32):
            assert flags() == (False, True, tf32, tf32)
        assert flags() == before


def test_auto_is_bf16_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, precision in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(hardware, "has_bf16", lambda device, has=has: has)
        assert hardware.resolve_precision("auto", "cpu") == precision
        assert hardware.resolve_precision("32-true", "cpu") == "32-true"
