"""A step on several ranks against the same step in one process: the same loss, the same gradients."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torch.multiprocessing.spawn import spawn, start_processes
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from atrous import DeepLabV3Plus
from atrous.data.loading import Sample
from atrous.data.spec import VOC_SPEC
from atrous.networks.resnet import ResNet
from atrous.training import batch_norm
from atrous.training.strategy import EveryPartReduced, build_strategy
from atrous.training.task import SegmentationTask

_OPTIMIZER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}


def _task() -> SegmentationTask:
    torch.manual_seed(0)
    model = DeepLabV3Plus(
        backbone=lambda **options: ResNet(units=(1, 1, 1, 1), unit="basic", width=4, **options),
        num_classes=21,
        aspp_channels=8,
        dropout=0,
        decoder_convolutions=((3, 8),),
    )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = SegmentationTask(
        model=model, spec=VOC_SPEC, seed=0, max_steps=2, preprocessing="inception", optimizer=_OPTIMIZER
    )
    return task.train()


class _Step(torch.nn.Module):
    """What Lightning wraps: the loss of a batch as a forward pass."""

    def __init__(self, task: SegmentationTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Sample) -> Tensor:
        return self.task.training_step(batch, 0)


def _batch(*, valid: int = 8) -> dict[str, Tensor]:
    """Eight images of unevenly many valid pixels: none in the first nor from the one numbered `valid` on."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 21, (8, 33, 33), generator=generator, dtype=torch.uint8)
    label[0], label[1, 3:], label[valid:] = 255, 255, 255
    image = torch.randint(0, 256, (8, 3, 33, 33), generator=generator, dtype=torch.uint8)
    return {"image": image, "label": label, "extent": torch.full((8, 2), 33)}


@contextmanager
def _group(folder: Path, *, rank: int, world: int) -> Iterator[None]:
    """Ranks that have met. What is wrapped in between has to be gone at the end.

    A DistributedDataParallel that is the last one to let go of its group waits in vain, with the interpreter's lock,
    for a thread of gloo that may want it.
    """
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    try:
        yield
    finally:
        gc.collect()
        dist.destroy_process_group()


def _on_rank(rank: int, world: int, folder: str, valid: int) -> None:
    torch.set_num_threads(1)
    with _group(Path(folder), rank=rank, world=world):
        _step_on_rank(rank, world, folder, valid)


def _step_on_rank(rank: int, world: int, folder: str, valid: int) -> None:
    task = _task()
    batch_norm.synchronise(task.model, on_cuda=False)
    wrapped = DistributedDataParallel(
        _Step(task), broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
    )
    each = 8 // world
    loss = wrapped({key: value[rank * each : (rank + 1) * each] for key, value in _batch(valid=valid).items()})
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    gradients = {name: parameter.grad for name, parameter in task.model.named_parameters()}
    torch.save({"loss": mean / world, "gradients": gradients}, f"{folder}/{rank}.pt")


def _norm(gradients: dict[str, Tensor]) -> float:
    return float(torch.cat([gradient.flatten().double() for gradient in gradients.values()]).norm())


@pytest.mark.parametrize(
    ("world", "valid"),
    [(2, 8), (2, 4), pytest.param(4, 8, marks=pytest.mark.exhaustive)],
    ids=["2", "2, one without a valid pixel", "4"],
)
def test_gradients_are_those_of_one_process_with_the_whole_batch(world: int, valid: int, tmp_path: Path) -> None:
    task = _task()
    loss = task.training_step(_batch(valid=valid), 0)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    expected = {name: parameter.grad for name, parameter in task.model.named_parameters() if parameter.grad is not None}
    start_processes(_on_rank, (world, str(tmp_path), valid), nprocs=world, start_method="fork")  # type: ignore[no-untyped-call]
    for rank in range(world):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["loss"], loss.detach(), rtol=1e-5, atol=0)
        assert found["gradients"].keys() == expected.keys()
        errors = {name: found["gradients"][name] - gradient for name, gradient in expected.items()}
        assert _norm(errors) <= 1e-5 * _norm(expected)
        for name, gradient in expected.items():  # none of them is lost in the norm of all
            assert _norm({name: errors[name]}) <= 1e-4 * _norm({name: gradient}), name


_STEPS, _PARTS = 3, 2


def _accumulated(strategy: Strategy, *, rank: int, world: int) -> SegmentationTask:
    """The weights after steps of two parts each, one of which has few valid pixels."""
    task = _task()
    if world > 1:
        batch_norm.synchronise(task.model, on_cuda=False)
    each = 4 // world
    parts = []
    for number in range(_STEPS * _PARTS):
        of_all = {key: value[4 * (number % _PARTS) :][:4] for key, value in _batch().items()}
        parts.append({key: value[rank * each : (rank + 1) * each] for key, value in of_all.items()})
    trainer = Trainer(
        accelerator="cpu",
        strategy=strategy,
        devices=world,
        plugins=[TorchElasticEnvironment()] if world > 1 else [],
        use_distributed_sampler=False,
        max_steps=_STEPS,
        accumulate_grad_batches=_PARTS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(parts, batch_size=None))  # type: ignore[arg-type]
    assert trainer.global_step == _STEPS
    return task


def _accumulate_on_rank(rank: int, world: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    os.environ.update(GROUP_RANK="0", TORCHELASTIC_RUN_ID="test", TORCHELASTIC_USE_AGENT_STORE="True")
    task = _accumulated(build_strategy(world, "cpu", meeting="run", patience=60), rank=rank, world=world)
    torch.save(task.state_dict(), f"{folder}/{rank}.pt")


@pytest.mark.exhaustive
def test_accumulated_steps_on_two_ranks_give_the_weights_of_one_process(tmp_path: Path) -> None:
    expected = _accumulated(build_strategy(1, "cpu", meeting="run", patience=60), rank=0, world=1).state_dict()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    spawn(_accumulate_on_rank, (2, str(tmp_path), store.port), nprocs=2)  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    start = _task().state_dict()
    for name, value in expected.items():
        moved = float((value - start[name]).double().norm())
        assert float((found[0][name] - value).double().norm()) <= 1e-5 * max(moved, float(value.double().norm())), name


def test_a_static_graph_takes_the_backward_pass_of_every_part(tmp_path: Path) -> None:
    with _group(tmp_path, rank=0, world=1):
        _take_three_steps_of_two_parts()


def _take_three_steps_of_two_parts() -> None:
    strategy = build_strategy(2, "cpu", meeting="run", patience=0)
    assert isinstance(strategy, EveryPartReduced)
    layer = torch.nn.Linear(3, 1, bias=False)
    options = {"gradient_as_bucket_view": True, "static_graph": True, "broadcast_buffers": False}
    assert strategy._ddp_kwargs == options, "gradients in the buckets, and nothing that is asked in every step"
    network = DistributedDataParallel(layer, **strategy._ddp_kwargs)
    strategy.model = network
    for _ in range(3):
        layer.weight.grad = None
        for part in (1.0, 2.0):
            with strategy.block_backward_sync():
                network(torch.full((1, 3), part)).sum().backward()
        torch.testing.assert_close(layer.weight.grad, torch.full((1, 3), 3.0))


def test_trainings_of_one_launch_leave_their_keys_apart_in_a_store_that_outlives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    place: dict[str, object] = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": 0}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    keys = [store.num_keys()]
    for meeting in ("parent", "child", "child"):
        strategy = build_strategy(2, "cpu", meeting=meeting, patience=60)
        assert isinstance(strategy, EveryPartReduced)
        strategy.parallel_devices, strategy.cluster_environment = [torch.device("cpu")], TorchElasticEnvironment()
        strategy.setup_distributed()
        assert dist.get_world_size() == 1
        dist.destroy_process_group()
        keys.append(store.num_keys())
    _, of_child, of_child_again = (after - before for before, after in pairwise(keys))
    assert of_child > 0
    assert of_child_again == 0
