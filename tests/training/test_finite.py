"""Steps whose numbers are not finite: found, told with their images, kept, and left out when asked."""

import io
import math
import os
from collections.abc import Callable, Container, Mapping
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from atrous.data.samples import Sample, empty_batch
from atrous.run_store import RunFolder
from atrous.training.finite import MOST_IN_A_ROW, DivergedError, FiniteGuard
from atrous.training.optimization import sgd_with_poly


class Tiny(LightningModule):
    """A batch norm, a convolution and a bias, whose loss is poisoned at chosen micro-steps."""

    optimizer_state: dict[int, dict[str, Tensor]]  # when the training has ended

    def __init__(
        self,
        poisons: dict[int, float],
        *,
        overflows: Container[int] = (),
        added: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
        self._poisons, self._overflows = poisons, overflows
        self._added = dict(added or {})  # to the loss: no gradient knows of it

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        factor = self._poisons.get(batch_idx, 1.0)
        # A number that is not finite also in the input: batch norm would remember it.
        loss: Tensor = self.model(batch["image"].float() * factor).square().mean()
        if batch_idx in self._overflows:  # a finite loss, and gradients that are not
            loss.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
        return loss + self._added.get(batch_idx, 0.0)

    def configure_optimizers(self) -> Any:
        groups = [{"params": list(self.parameters()), "lr": 0.01, "weight_decay": 0.1}]
        return sgd_with_poly(groups, momentum=0.9, max_steps=100, power=0.0)[0]


def _batches(count: int, *, first_image: int = 0) -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    batches = []
    for number in range(count):
        batch = empty_batch(2, (4, 5))
        batch["image"].copy_(torch.randint(0, 9, (2, 3, 4, 5), generator=generator, dtype=torch.uint8))
        batch["label"].fill_(number)
        batch["extent"].fill_(4)
        batch["index"].copy_(torch.tensor([2 * number, 2 * number + 1]) + first_image)
        batches.append(batch)
    return batches


def _fit(
    folder: Path,
    poisons: dict[int, float],
    *,
    action: str,
    steps: int = 6,
    accumulate: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    overflows: Container[int] = (),
    added: Mapping[int, float] | None = None,
    first_image: int = 0,
    **options: Any,
) -> tuple[Tiny, FiniteGuard]:
    guard = FiniteGuard(folder=RunFolder(folder), action=action, every=10, sample_id=lambda index: f"img{index}")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        callbacks=[guard],
        plugins=[] if scaler is None else [MixedPrecision("16-mixed", "cpu", scaler)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    module = Tiny(poisons, overflows=overflows, added=added)
    batches = _batches(steps * accumulate, first_image=first_image)
    try:
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    finally:
        module.optimizer_state = trainer.optimizers[0].state_dict()["state"]
    return module, guard


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_the_weights_move(tmp_path: Path, poison: float) -> None:
    with pytest.raises(
        DivergedError, match=r"the loss is nan at step 3 \(images img4, img5; .*step3\.pt\).*lr"
    ) as caught:
        _fit(tmp_path, {2: poison}, action="stop")
    assert "trainer.on_nonfinite=skip" in str(caught.value)


def test_the_batch_at_fault_is_kept_as_plain_data_with_its_images_and_parameters(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        _fit(tmp_path, {2: math.nan}, action="stop")
    kept = torch.load(tmp_path / "nonfinite" / "step3.pt", weights_only=True)
    expected = _batches(3)[2]
    assert all(torch.equal(kept[key], expected[key]) for key in ("image", "label", "extent", "index"))
    assert kept["ids"] == ["img4", "img5"]
    assert (kept["step"], kept["rank"]) == (3, 0)
    assert math.isnan(kept["loss"])
    assert kept["parameters"] == ["model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias"]
    assert (tmp_path / "nonfinite" / "step3.pt").stat().st_size < 10_000, "the batch, not all memory around it"


def test_a_step_that_is_left_out_changes_no_weight_no_momentum_and_no_statistics(tmp_path: Path) -> None:
    whole, guard = _fit(tmp_path / "whole", {5: math.nan}, action="skip", steps=6)
    short, _ = _fit(tmp_path / "short", {}, action="stop", steps=5)
    assert guard.skipped == 1
    states = (whole.state_dict(), short.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    momenta = [list(module.optimizer_state.values()) for module in (whole, short)]
    assert all(
        torch.equal(one["momentum_buffer"], other["momentum_buffer"]) for one, other in zip(*momenta, strict=True)
    )
    assert all(value.isfinite().all() for value in states[0].values())


@pytest.mark.parametrize("bad", [0, 5])
def test_a_gradient_scaler_leaves_a_step_out_and_lowers_its_scale(tmp_path: Path, bad: int) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    whole, guard = _fit(tmp_path / "whole", {bad: math.nan}, action="skip", steps=bad + 1, scaler=scaler)
    assert guard.skipped == 1
    assert scaler.get_scale() == 32.0
    if bad:
        short, _ = _fit(tmp_path / "short", {}, action="stop", steps=bad, scaler=torch.amp.GradScaler("cpu", 64.0))
        expected = short.optimizer_state
    else:
        short = Tiny({})
        expected = {key: {"momentum_buffer": torch.zeros(())} for key in whole.optimizer_state}
    assert all(torch.equal(value, short.state_dict()[name]) for name, value in whole.state_dict().items())
    for key, state in whole.optimizer_state.items():
        momentum = state["momentum_buffer"]
        assert torch.equal(momentum, expected[key]["momentum_buffer"].expand_as(momentum))


def test_gradients_that_overflow_at_every_scale_stop_the_run_and_a_search_for_the_scale_does_not(
    tmp_path: Path,
) -> None:
    scaler = torch.amp.GradScaler("cpu")
    _, guard = _fit(tmp_path / "search", {}, action="stop", steps=22, scaler=scaler, overflows=range(19))
    assert guard.skipped == 0
    assert scaler.get_scale() == 2.0**-3
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(DivergedError, match=r"gradients of 4 parameters, .* at step 20 .* half the scale .*lr"):
        _fit(tmp_path / "lost", {}, action="stop", steps=22, scaler=scaler, overflows=range(22))


def test_the_loss_of_a_batch_is_kept_without_the_scale_of_its_gradients(tmp_path: Path) -> None:
    losses = []
    for name, scale in (("plain", 1.0), ("scaled", 1024.0)):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        guard = FiniteGuard(folder=RunFolder(tmp_path / name), action="skip", every=1, sample_id=str)
        trainer = _trainer()
        trainer.precision_plugin = SimpleNamespace(scaler=scaler)
        guard.on_train_batch_start(trainer, Tiny({}), _batches(1)[0], 0)
        guard.on_before_backward(trainer, Tiny({}), scaler.scale(torch.tensor(1.5)))
        losses.append(float(guard._seen(trainer, Tiny({})).loss))
    assert losses == [1.5, 1.5]


def test_one_bad_part_of_an_accumulated_step_is_enough_and_all_its_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"at step 2 \(images img4, img5, img6, img7; "):
        _fit(tmp_path, {2: math.nan}, action="stop", steps=3, accumulate=2)


def test_many_steps_in_a_row_stop_the_run_even_if_they_may_be_left_out(tmp_path: Path) -> None:
    scattered = dict.fromkeys(range(0, 24, 2), math.nan)
    _, guard = _fit(tmp_path / "scattered", scattered, action="skip", steps=24)
    assert guard.skipped == 12
    assert len(list((tmp_path / "scattered" / "nonfinite").iterdir())) == 10, "the disk is not filled with batches"
    endless = dict.fromkeys(range(1, 30), math.nan)
    with pytest.raises(
        DivergedError, match=rf"at step 11 .* so were the {MOST_IN_A_ROW - 1} steps before: lower recipe"
    ):
        _fit(tmp_path / "endless", endless, action="skip", steps=24)


def test_the_count_of_steps_that_were_left_out_survives_a_resume(tmp_path: Path) -> None:
    guards = [FiniteGuard(folder=RunFolder(tmp_path), action="skip", every=1, sample_id=str) for _ in range(2)]
    guards[0].skipped = 3
    guards[1].load_state_dict(guards[0].state_dict())
    assert guards[1].skipped == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_element_of_one_gradient_is_seen(tmp_path: Path, value: float, memory_format: torch.memory_format) -> None:
    guard = FiniteGuard(folder=RunFolder(tmp_path), action="stop", every=1, sample_id=str)
    module = Tiny({})
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    convolution: Any = module.model[1]
    convolution.weight.grad = torch.zeros(2, 3, 1, 1).to(memory_format=memory_format)
    convolution.weight.grad[1, 2] = value
    guard.on_train_batch_start(_trainer(), module, _batches(1)[0], 0)
    guard.on_before_backward(_trainer(), module, torch.tensor(1.5))
    with pytest.raises(
        DivergedError, match=r"the gradients of 1 parameters, first model\.1\.weight, are not finite at step 8"
    ):
        guard.on_before_optimizer_step(_trainer(), module, None)


def _trainer() -> Any:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(world_size=1, global_rank=0, global_step=7, strategy=strategy, precision_plugin=None)


def test_a_finite_training_is_left_as_it_is(tmp_path: Path) -> None:
    modules = [_fit(tmp_path, {}, action=action)[0] for action in ("stop", "skip")]
    values: list[Callable[[], dict[str, Tensor]]] = [module.state_dict for module in modules]
    assert all(torch.equal(value, values[1]()[name]) for name, value in values[0]().items())
    assert not (tmp_path / "nonfinite").exists()


def _late_guard(folder: Path, *, every: int) -> tuple[FiniteGuard, Any, Tiny]:
    """A guard whose device computes behind its back, in front of the first step, and what it is told of."""
    guard = FiniteGuard(folder=RunFolder(folder), action="stop", every=every, sample_id=lambda index: f"img{index}")
    device = SimpleNamespace(root_device=SimpleNamespace(type="cuda"))
    plugin = SimpleNamespace()
    places = {"world_size": 1, "global_rank": 0, "is_global_zero": True}
    return guard, SimpleNamespace(strategy=device, precision_plugin=plugin, global_step=0, **places), Tiny({})


def _step(guard: FiniteGuard, trainer: Any, module: Tiny, loss: float) -> None:
    guard.on_train_batch_start(trainer, module, _batches(1)[0], trainer.global_step)
    guard.on_before_backward(trainer, module, torch.tensor(loss))
    guard.on_before_optimizer_step(trainer, module, None)
    trainer.global_step += 1
    guard.on_train_batch_end(trainer, module)


def test_a_device_is_let_get_two_steps_ahead(tmp_path: Path) -> None:
    guard, trainer, module = _late_guard(tmp_path, every=100)
    for loss in (math.nan, 1.0):
        _step(guard, trainer, module, loss)
    with pytest.raises(DivergedError, match="the loss is nan at step 1 "):
        _step(guard, trainer, module, 1.0)


def test_nothing_that_a_device_has_yet_to_tell_is_logged_or_saved(tmp_path: Path) -> None:
    guard, trainer, module = _late_guard(tmp_path, every=2)
    _step(guard, trainer, module, 1.0)
    with pytest.raises(DivergedError, match="the loss is nan at step 2 "):
        _step(guard, trainer, module, math.nan)
    _step(guard, trainer, module, math.inf)
    with pytest.raises(DivergedError, match="the loss is inf at step 3 "):
        guard.on_save_checkpoint(trainer, module, {})


def _rank(rank: int, folder: Path, port: int) -> None:
    """One of two ranks; numbers that are not finite are those of rank 1 alone."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    names |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}  # the store of the test
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()) as said:
        module, guard = _fit(
            folder,
            {3: math.nan} if rank else {},
            added={1: math.inf} if rank else {},
            action="skip",
            first_image=100 * rank,
            # Who waits for a rank that does not come fails the test.
            strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=20), broadcast_buffers=False),
            devices=2,
            use_distributed_sampler=False,
        )
    state = {"skipped": guard.skipped, "said": said.getvalue(), "module": module.state_dict()}
    torch.save(state, folder / f"rank{rank}.pt")


def test_ranks_leave_out_the_same_steps_and_name_the_images_of_the_rank_whose_loss_it_was(tmp_path: Path) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    start_processes(_rank, args=(tmp_path, store.port), nprocs=2, start_method="fork")  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["skipped"] == second["skipped"] == 2, "also that step of which no gradient knows"
    said = [line for line in first["said"].splitlines() if line.startswith("left out")]
    assert [line.partition(";")[0] for line in said] == [
        "left out: the loss is inf at step 2 (images img102, img103",
        "left out: the loss is nan at step 4 (images img106, img107",
    ]
    assert [line.rpartition("/")[2] for line in said] == ["step2-rank1.pt)", "step4-rank1.pt)"], "theirs"
    assert "left out" not in second["said"]
    assert all(torch.equal(value, second["module"][name]) for name, value in first["module"].items())
    kept = sorted(path.name for path in (tmp_path / "nonfinite").iterdir())
    assert kept == ["step2-rank0.pt", "step2-rank1.pt", "step4-rank0.pt", "step4-rank1.pt"]
