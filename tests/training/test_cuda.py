"""What only a GPU can show: no step waits for the host, the loss and the memory there, runs from start to end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from atrous import DeepLabV3Plus
from atrous.data.spec import VOC_SPEC
from atrous.networks.activation_checkpointing import checkpoint_activations
from atrous.networks.normalisation import normalised
from atrous.networks.recomputation import maps_recomputed
from atrous.training import machine
from atrous.training.loss import segmentation_loss
from atrous.training.task import SegmentationTask

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

_OPTIMIZER = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}
_SMALL = ("backbone=tiny", "model=deeplabv3", "recipe.max_steps=6", "data.val.length=8", "trainer.log_every=1")


def _batch(size: int, n: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 21, (n, size, size), generator=generator, dtype=torch.uint8)
    label[:, ::7] = 255
    image = torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)
    return {"image": image.cuda(), "label": label.cuda(), "extent": torch.full((n, 2), size).cuda()}


def _task(*, compiled: bool = False, frugal: bool = False) -> SegmentationTask:
    torch.manual_seed(0)
    model = DeepLabV3Plus(backbone="resnet50", dropout=0)
    checkpoint_activations(model, "units" if frugal else "none")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = SegmentationTask(
        model=model,
        spec=VOC_SPEC,
        seed=0,
        max_steps=10,
        preprocessing="inception",
        optimizer=_OPTIMIZER,
        compiled=compiled,
    )
    return task.cuda().train()


def _step(task: SegmentationTask, batch: dict[str, Tensor], optimizer: Any, dtype: torch.dtype | None) -> Tensor:
    with torch.autocast("cuda", dtype, enabled=dtype is not None):
        loss = task.training_step(batch, 0)  # type: ignore[arg-type]
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


@contextmanager
def _no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("frugal", [False, True])
def test_a_step_never_waits_for_the_device(dtype: torch.dtype | None, frugal: bool) -> None:
    task, batch = _task(frugal=frugal), _batch(129)
    optimizer = task.configure_optimizers()["optimizer"]
    _step(task, batch, optimizer, dtype)
    with _no_waiting():
        loss = _step(task, batch, optimizer, dtype)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_loss_is_that_of_float64_on_the_host(align_corners: bool) -> None:
    batch = _batch(65)
    logits = 5 * torch.randn(2, 21, 17, 17, generator=torch.Generator().manual_seed(1))
    exact = logits.double().requires_grad_()
    upsampled = F.interpolate(exact, (65, 65), mode="bilinear", align_corners=align_corners)
    expected = F.cross_entropy(upsampled, batch["label"].cpu().long(), ignore_index=255)
    expected.backward()  # type: ignore[no-untyped-call]
    on_device = logits.cuda().requires_grad_()
    loss = segmentation_loss(on_device, batch["label"], align_corners=align_corners)
    loss.backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    assert on_device.grad is not None
    torch.testing.assert_close(loss.cpu().double(), expected.detach(), rtol=1e-5, atol=0)
    error = (on_device.grad.cpu().double() - exact.grad).abs().max()
    assert error < 1e-5 * exact.grad.abs().max()


def _peak(*, frugal: bool) -> float:
    torch.cuda.empty_cache()
    task, batch = _task(frugal=frugal), _batch(257, n=4)
    optimizer = task.configure_optimizers()["optimizer"]
    _step(task, batch, optimizer, torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _step(task, batch, optimizer, torch.bfloat16)
    return torch.cuda.max_memory_allocated() - before


def _normalise_on_rank(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    norm = torch.nn.SyncBatchNorm(8).cuda()
    x = _maps()[2 * rank : 2 * rank + 2].cuda().requires_grad_()
    with maps_recomputed():
        y = normalised(norm, x, relu=True)  # type: ignore[arg-type]
        y.square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.save([tensor.detach().cpu() for tensor in (y, x.grad, *norm.buffers())], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _maps() -> Tensor:
    return torch.randn(4, 8, 9, 7, generator=torch.Generator().manual_seed(0)) * 2 + 1


def test_batch_norm_across_ranks_that_is_made_again_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    spawn(_normalise_on_rank, (2, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    norm, x = torch.nn.BatchNorm2d(8).cuda(), _maps().cuda().requires_grad_()
    y = F.relu(norm(x))
    y.square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    wanted = [tensor.detach().cpu() for tensor in (y, x.grad, *norm.buffers())]
    of_ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for number, value in enumerate(wanted):
        found = [of_rank[number] for of_rank in of_ranks]
        torch.testing.assert_close(torch.cat(found) if number < 2 else found[0], value, atol=1e-4, rtol=1e-4)


def test_parts_that_are_computed_twice_take_less_memory() -> None:
    assert _peak(frugal=True) < 0.6 * _peak(frugal=False)  # gradients of 40 million parameters are in both


def test_the_loss_never_holds_the_logits_of_a_batch_at_full_size() -> None:
    n, size = 16, 513
    logits = torch.randn(n, 21, 129, 129, device="cuda", requires_grad=True)
    labels = _batch(size, n)["label"]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    segmentation_loss(logits, labels).backward()  # type: ignore[no-untyped-call]
    assert torch.cuda.max_memory_allocated() - before < n * 21 * size * size * 4


def test_exact_float32_is_exact_and_tensorfloat_is_not() -> None:
    a = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    exact, errors = a.double() @ a.double(), []
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for allowed in (False, True):
            machine.use_tf32(allowed)
            product = (a.cuda() @ a.cuda()).cpu().double()
            errors.append(float((product - exact).norm() / exact.norm()))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert errors[0] < 1e-5
    assert errors[1] > 1e-4


def test_a_compiled_step_gives_the_loss_of_the_plain_one() -> None:
    batch, losses = _batch(129), []
    for compiled in (False, True):
        task = _task(compiled=compiled)
        optimizer = task.configure_optimizers()["optimizer"]
        losses.append([float(_step(task, batch, optimizer, None)) for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def _train(store: Path, *overrides: str) -> Path:
    command = [sys.executable, "-m", "atrous.commands.train", *_SMALL, f"store={store}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = store.glob("runs/*/seed*")
    return run


def test_a_run_trains_and_scores_on_the_gpu_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    run = _train(tmp_path, "trainer.stop_at_step=3")
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    _train(tmp_path)
    results = json.loads((run / "results.json").read_text())
    assert results["training"]["precision"] == "bf16-mixed"
    assert results["training"]["steps"] == 6
    assert results["evaluations"]["single"]["images"] == 8


def test_outlines_are_added_to_what_the_training_has_measured(tmp_path: Path) -> None:
    run = _train(tmp_path)
    command = [sys.executable, "-m", "atrous.commands.evaluate", f"run={run}", "boundary=true", "page=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # other kernels would find other labels: it is refused then


def test_a_deterministic_run_that_was_stopped_has_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    key = "trainer.deterministic=true"
    _train(tmp_path / "stopped", key, "trainer.stop_at_step=3")
    runs = [_train(tmp_path / name, key) for name in ("stopped", "straight")]
    weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_run_computes_twice_and_in_float32_by_key(tmp_path: Path) -> None:
    run = _train(tmp_path, "trainer.activation_checkpointing=units", "recipe.precision=32-true", "trainer.tf32=true")
    assert json.loads((run / "results.json").read_text())["training"]["precision"] == "32-true"
