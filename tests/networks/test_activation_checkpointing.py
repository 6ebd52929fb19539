"""A network that computes its parts twice gives the bits of one that keeps them, in less memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.multiprocessing.spawn import spawn
from torch.utils._python_dispatch import TorchDispatchMode

from atrous import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.compiling import cpp_compiler
from atrous.networks import depthwise_gradients, fused_batch_norm
from atrous.networks.activation_checkpointing import Recomputed, checkpoint_activations
from atrous.networks.mobilenet import mobilenetv2
from atrous.networks.resnet import resnet18, resnet50
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import xception41
from atrous.training import batch_norm

NETWORKS: dict[str, Callable[[], Segmenter]] = {
    "plus": lambda: DeepLabV3Plus(backbone=partial(resnet50, width=8), num_classes=3, aspp_channels=8),
    "plus, two low levels": lambda: DeepLabV3Plus(
        backbone=partial(resnet18, width=8), num_classes=3, aspp_channels=8, low_levels=(8, 4)
    ),
    "plus, separable": lambda: DeepLabV3Plus(
        backbone=partial(resnet50, width=8),
        num_classes=3,
        aspp_channels=64,
        aspp_separable=True,
        decoder_separable=True,
    ),
    "cascade": lambda: DeepLabV3Cascade(backbone=partial(resnet18, width=8), num_classes=3, output_stride=32),
    "xception": lambda: DeepLabV3Plus(backbone=partial(xception41, width=0.125), num_classes=3, aspp_channels=8),
    "mobilenet": lambda: DeepLabV3(backbone=partial(mobilenetv2, width=0.25), num_classes=3, aspp_rates=()),
}


class _Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every storage that an operation makes, and the bytes of those that are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._made[StorageWeakRef(storage)] = storage.nbytes()  # type: ignore[no-untyped-call]
        return result

    def bytes(self) -> int:
        return sum(nbytes for made, nbytes in self._made.items() if not made.expired())


def _trained(model: Segmenter, images: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], int]:
    """Logits, gradients, buffers, and the bytes that were kept for the backward pass."""
    torch.manual_seed(1)  # dropout
    model.train()
    with _Allocated() as allocated:
        logits = model.low_resolution_logits(images)
    kept = allocated.bytes()
    logits.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients, {name: b.clone() for name, b in model.named_buffers()}, kept


@pytest.mark.parametrize(("what", "share"), [("maps", 0.65), ("units", 0.6)])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_gradients_and_batch_norm_are_the_same_bits_in_less_memory(
    name: str, what: Recomputed, share: float
) -> None:
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    torch.manual_seed(0)
    frugal = NETWORKS[name]()
    checkpoint_activations(frugal, what)
    logits, gradients, buffers, kept = _trained(plain, images)
    again, same_gradients, same_buffers, kept_less = _trained(frugal, images)
    assert torch.equal(logits, again)
    assert gradients.keys() == same_gradients.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(gradients[key], same_gradients[key]) for key in gradients)
    assert all(torch.equal(buffers[key], same_buffers[key]) for key in buffers)
    assert kept_less < share * kept


@pytest.mark.parametrize("what", get_args(Recomputed))
def test_the_backward_pass_lets_go_of_what_it_has_used(what: Recomputed) -> None:
    model = NETWORKS["plus"]().train()
    checkpoint_activations(model, what)
    left: list[int] = []
    with _Allocated() as allocated:  # what the forward pass made
        logits = model.low_resolution_logits(torch.randn(2, 3, 65, 65))
    kept = allocated.bytes()
    of_first_unit = model.get_parameter("backbone.blocks.0.0.conv1.conv.weight")
    of_first_unit.register_hook(lambda _: left.append(allocated.bytes()))  # type: ignore[no-untyped-call]
    logits.square().mean().backward()  # type: ignore[no-untyped-call]
    assert left[0] < 0.5 * kept


def test_frozen_batch_norm_stays_as_it_is() -> None:
    model = NETWORKS["plus"]()
    checkpoint_activations(model, "units")
    model.train()
    batch_norm.freeze(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.low_resolution_logits(torch.randn(2, 3, 33, 33)).sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_mean_over_all_batches_counts_each_once(compiled: bool, request: pytest.FixtureRequest) -> None:
    if compiled:
        request.getfixturevalue("compiled_kernels")
    found = []
    for what in ("none", "units"):
        torch.manual_seed(0)
        model = NETWORKS["plus"]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        checkpoint_activations(model, what)
        for norm in batch_norm.batch_norms(model):
            norm.momentum = None
        for seed in range(2):
            images = torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(seed))
            model(images.to(memory_format=torch.channels_last)).square().sum().backward()
        found.append([*model.state_dict().values(), *(weight.grad for weight in model.parameters())])
    assert all(map(torch.equal, *found))


def _evaluate(model: Segmenter) -> None:
    model.eval()


def _at_another_stride(model: Segmenter) -> None:
    model.set_output_stride(16 if model.output_stride == 32 else 8)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("what", ["maps", "units"])
@pytest.mark.parametrize("change", [_at_another_stride, _evaluate])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_set_between_forward_and_backward_pass_changes_no_gradient(
    name: str, change: Callable[[Segmenter], None], what: Recomputed, frozen: bool
) -> None:
    images, gradients = torch.randn(2, 3, 129, 129).contiguous(memory_format=torch.channels_last), []
    for recomputed, changed in (("none", False), (what, True)):
        torch.manual_seed(0)
        model = NETWORKS[name]().train()
        model.backbone.requires_grad_(not frozen)  # a stride in there would be noticed by the size of a map
        checkpoint_activations(model, recomputed)  # type: ignore[arg-type]
        loss = model(images).square().mean()
        if changed:
            change(model)
        now = [dict(vars(module)) for module in model.modules()]
        loss.backward()
        assert [dict(vars(module)) for module in model.modules()] == now
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(map(torch.equal, *gradients))


def test_it_can_be_switched_off_and_does_nothing_in_evaluation() -> None:
    model = NETWORKS["plus"]()
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    kept = _trained(model, images)[-1]
    checkpoint_activations(model, "units")
    checkpoint_activations(model, "none")
    assert _trained(model, images)[-1] == kept
    checkpoint_activations(model, "units")
    model.eval()
    assert model(images).shape == (2, 3, 65, 65)


def _rank(rank: int, world: int, folder: str, name: str, ours: bool) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    for module in (fused_batch_norm, depthwise_gradients) if ours else ():
        assert module.kernels.use()
    images = torch.randn(world, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    for what in get_args(Recomputed):
        torch.manual_seed(0)
        model = NETWORKS[name]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch_norm.synchronise(model, on_cuda=False)
        checkpoint_activations(model, what)
        own = images[rank : rank + 1].contiguous(memory_format=torch.channels_last)
        _, gradients, buffers, kept = _trained(model, own)
        torch.save([gradients, buffers], f"{folder}/{what}{rank}.pt")
        Path(folder, f"{what}{rank}.kept").write_text(str(kept))
    torch.distributed.destroy_process_group()


@pytest.mark.exhaustive
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("name", ["cascade", "xception"])
def test_batch_norm_across_ranks_gives_the_same_bits_and_counts_a_batch_once(
    tmp_path: Path, name: str, ours: bool
) -> None:
    if ours and cpp_compiler() is None:
        pytest.skip("there is no C++ compiler")
    spawn(_rank, args=(2, str(tmp_path), name, ours), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        plain, *others = (torch.load(tmp_path / f"{what}{rank}.pt", weights_only=True) for what in get_args(Recomputed))
        for frugal in others:
            for before, after in zip(plain, frugal, strict=True):
                assert all(torch.equal(before[name], after[name]) for name in before)
        kept = {what: int((tmp_path / f"{what}{rank}.kept").read_text()) for what in get_args(Recomputed)}
        assert kept["units"] < kept["maps"] < 0.7 * kept["none"], kept
