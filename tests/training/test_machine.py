"""What the machine's facts mean for a run, and that freed memory stays with the process."""

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atrous.compiling import cpp_compiler
from atrous.errors import ConfigError
from atrous.networks import fused_batch_norm
from atrous.run_store import RunFolder
from atrous.training import machine
from atrous.training import trainer as trainer_module

# Freeing and taking 10 MB again, a hundred times; prints the page faults of it.
_CHURN = """
import resource, torch
from atrous.training import machine
torch.set_num_threads(1)
machine.use_allocator("pytorch", "{keeps}")
def take():
    x = torch.ones(2_500_000)
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
@pytest.mark.parametrize(("keeps", "hands_back"), [("maps", False), ("units", True)])
def test_blocks_that_tensors_free_are_kept_up_to_12_mib_or_to_4_where_memory_is_short(
    keeps: str, hands_back: bool
) -> None:
    program = _CHURN.replace("{keeps}", keeps)
    output = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    pages_of_all_tensors = 100 * 10_000_000 // 4096
    assert (int(output) > pages_of_all_tensors / 2) is hands_back


@pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")
def test_kernels_are_ours_with_auto_and_pytorchs_with_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path))
    norm, x = torch.nn.BatchNorm2d(4), torch.ones(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    suited = []
    for which in ("auto", "pytorch"):
        machine.use_kernels(which)
        suited.append(fused_batch_norm.suits(norm, x))
    assert suited == [True, False]


def test_compiling_without_a_compiler_is_refused_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"trainer\.compile=true needs a C\+\+ compiler.*no-such-compiler"):
        machine.check_compiler("cpu")


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_holds_for_products_and_convolutions_alike(allowed: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        machine.use_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_autocast_follows_the_precision() -> None:
    found = [machine.autocast_dtype(precision) for precision in ("bf16-mixed", "16-mixed", "32-true")]
    assert found == [torch.bfloat16, torch.float16, None]


@pytest.mark.parametrize(
    ("device", "deterministic", "asked"),
    [("cuda", True, ("warn", False)), ("cuda", False, (None, True)), ("cpu", True, (None, False))],
)
def test_deterministic_kernels_are_asked_for_on_cuda_and_leave_no_choice_by_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, deterministic: bool, asked: tuple[Any, bool]
) -> None:
    trainer: dict[str, Any] = {"accelerator": device, "nodes": 1, "devices": 1, "accumulate": 1, "progress": False}
    trainer |= {"val_every": 1, "log_every": 1, "timeout_seconds": 0, "cudnn_benchmark": True}
    config = {
        "recipe": {"max_steps": 1, "precision": "32-true"},
        "trainer": {**trainer, "deterministic": deterministic},
    }
    monkeypatch.setattr(trainer_module, "Trainer", SimpleNamespace)
    for name in ("_callbacks", "build_strategy"):
        monkeypatch.setattr(trainer_module, name, lambda *_, **__: None)
    monkeypatch.setattr(trainer_module, "leave_sigterm", lambda made: made)
    made: Any = trainer_module.build_trainer(RunFolder(tmp_path), config, data=None, loggers=[])  # type: ignore[arg-type]
    assert (made.deterministic, made.benchmark) == asked


@pytest.mark.parametrize(
    ("changed", "tries"),
    [
        ({}, True),
        ({"accelerator": "cpu"}, False),
        ({"cudnn_benchmark": False}, False),
        ({"deterministic": True}, False),
        ({"compile": True}, False),
    ],
)
def test_the_watchdog_knows_whether_kernels_are_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any], tries: bool
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(trainer_module, "Watchdog", lambda *, tries_kernels, **_: told.append(tries_kernels))
    settings = {"accelerator": "cuda", "cudnn_benchmark": True, "deterministic": False, "compile": False}
    trainer_module._watchdog(RunFolder(tmp_path), {**settings, "timeout_seconds": 0, **changed})
    assert told == [tries]
