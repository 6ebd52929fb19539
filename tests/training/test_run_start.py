"""With which weights a run begins: those that its config asks for, or those of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atrous import DeepLabV3
from atrous.run_store import RunFolder
from atrous.training import batch_norm, machine, run


@pytest.mark.parametrize("step", [0, 3])
def test_a_run_that_goes_on_from_a_checkpoint_fetches_no_weights_to_begin_with(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.last_checkpoint.parent.mkdir()
    if step:
        torch.save({"state_dict": {}, "global_step": step}, folder.last_checkpoint)
    asked = []

    def build_model(_config: Any, *, num_classes: int, pretrained: bool) -> None:
        asked.append((num_classes, pretrained))
        raise InterruptedError

    data = SimpleNamespace(spec=SimpleNamespace(num_classes=11))
    monkeypatch.setattr(run, "build_model", build_model)
    monkeypatch.setattr(run, "build_datasets", lambda _data, cached: (data, data))
    for name in ("use_allocator", "use_kernels", "use_tf32"):
        monkeypatch.setattr(machine, name, lambda *_: None)
    keys = ("cpu_allocator", "activation_checkpointing", "cpu_kernels", "tf32", "compile", "threads")
    trainer = {"accelerator": "cpu", **dict.fromkeys(keys)}
    with pytest.raises(InterruptedError):
        run.train_and_evaluate(folder, {"trainer": trainer, "data": {}}, [])
    assert asked == [(11, step == 0)]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("recomputed", ["none", "units"])
def test_memory_format_and_recomputed_maps_are_those_of_the_config(
    tmp_path: Path, model: DeepLabV3, channels_last: bool, recomputed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, str]] = []

    def stop(*_: Any, **__: Any) -> None:
        raise InterruptedError

    data: Any = SimpleNamespace(spec=None)
    for name in ("build_data_module", "build_task", "_cost"):
        monkeypatch.setattr(run, name, lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr(run, "checkpoint_activations", lambda *what: asked.append(what))
    monkeypatch.setattr(run, "build_trainer", stop)
    monkeypatch.setattr(batch_norm, "warning_of_parts", lambda *_: "")
    settings = {"accumulate": 1, "channels_last": channels_last, "activation_checkpointing": recomputed}
    config = {"recipe": {}, "trainer": {**settings, "nodes": 1, "devices": 1, "accelerator": "cpu"}}
    with pytest.raises(InterruptedError):
        run._fit(RunFolder(tmp_path), config, model, (data, data), loggers=[], place=(None, 0))
    weights = [weight for weight in model.state_dict().values() if weight.ndim == 4 and weight.shape[-1] > 1]
    assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights} == {channels_last}
    assert asked == [(model, recomputed)]
