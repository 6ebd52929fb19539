"""What the machine can do, told from what it says of itself."""

import platform
from pathlib import Path

import pytest
import torch

from atrous import hardware


def test_the_device_of_an_accelerator() -> None:
    assert hardware.device_type("cpu") == "cpu"
    assert hardware.device_type("gpu") == "cuda"
    assert hardware.device_type("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


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
