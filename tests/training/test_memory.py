"""A full memory: recognised on every device, and told by the keys that help."""

import copy
import os
import signal
from typing import Any

import pytest
import torch

from atrous import hardware
from atrous.evaluation.inference import predict
from atrous.evaluation.protocol import Protocol
from atrous.training.memory import advice, is_of_killed_worker, is_out_of_memory

CONFIG: dict[str, Any] = {
    "recipe": {"batch_size": 16, "crop_size": 513, "precision": "32-true"},
    "trainer": {"accelerator": "cpu", "nodes": 1, "devices": 2, "accumulate": 1, "activation_checkpointing": "maps"},
    "data": {"val_batch_size": 4},
    "output_stride": 16,
}
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to ...")
CUDA = RuntimeError(
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
)
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
CUDNN = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        CPU,
        MemoryError(),
        CUDA,
        CUBLAS,
        CUDNN,
    ],
)
def test_full_memory_says_what_to_lower(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_of_killed_worker(error)
    said = advice(error, CONFIG)
    assert said.startswith("out of memory in training (")
    expected = (
        "trainer.activation_checkpointing=units",
        "recipe.precision=bf16-mixed (now 32-true)",
        "trainer.accumulate=2 (now 1; batch norm then sees 8 images at once)",
        "recipe.crop_size=385 (now 513)",
    )
    assert all(text in said for text in expected), said


def test_what_is_in_use_or_impossible_is_not_advised() -> None:
    config = copy.deepcopy(CONFIG)
    config["trainer"].update(activation_checkpointing="units", accumulate=4)
    config["recipe"]["precision"] = "bf16-mixed"
    said = advice(CPU, config)
    assert "activation_checkpointing" not in said
    assert "precision" not in said
    assert "accumulate" not in said, "two images per device are left already"
    assert "recipe.batch_size=8 (now 16)" in said


def test_bf16_is_not_advised_where_auto_is_bf16_already(monkeypatch: pytest.MonkeyPatch) -> None:
    config = copy.deepcopy(CONFIG)
    config["recipe"]["precision"] = "auto"
    for has, advised in ((True, False), (False, True)):
        monkeypatch.setattr(hardware, "has_bf16", lambda device, has=has: has)
        assert ("recipe.precision=bf16-mixed (now 32-true)" in advice(CPU, config)) is advised


def test_what_cuda_says_of_other_processes_does_not_hide_the_advice() -> None:
    error = torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 132.00 MiB. GPU 0 has a total capacity of 79.18 GiB of which 64.61 GiB "
        "is free. Process 549 has 1.73 GiB memory in use."
    )
    assert advice(error, CONFIG).startswith(
        "out of memory in training (CUDA out of memory. Tried to allocate 132.00 MiB). Lower"
    )


def test_an_evaluation_is_told_by_its_own_key() -> None:
    with pytest.raises(RuntimeError, match="allocate") as caught:
        predict(_Full(), torch.zeros(1, 3, 17, 17), Protocol())  # type: ignore[arg-type]
    said = advice(caught.value, CONFIG)
    assert said.startswith("out of memory in an evaluation (")
    assert "data.val_batch_size=2 (now 4)" in said


class _Killed(torch.utils.data.Dataset[int]):
    """Its worker is killed as the kernel would do it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_killed_worker_is_told_by_the_loaders_key_where_the_kernel_tells_of_a_full_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(torch.utils.data.DataLoader(_Killed(), num_workers=1))
    assert is_out_of_memory(caught.value)
    assert is_of_killed_worker(caught.value)
    config = {**CONFIG, "data": {"num_workers": 4}}
    said = advice(caught.value, config, has_killed=True)
    assert said.startswith("DataLoader worker (pid")
    assert "is killed by signal: Killed: the kernel ended a process meanwhile, for the machine or its control" in said
    assert "data.num_workers=2 (now 4" in said
    assert advice(caught.value, config).endswith("is killed by signal: Killed, and the kernel tells of no full memory")
    assert not is_out_of_memory(RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "))


class _Full:
    """Whatever is asked of it, there is no memory left."""

    def __getattr__(self, name: str) -> object:
        raise CPU

    def __call__(self, *_: object) -> None:
        raise CPU


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("x"), OSError(28, "No space left on device")]
)
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
