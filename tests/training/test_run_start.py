"""With which weights a run begins: those that its config asks for, or those of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atrous.run_store import RunFolder
from atrous.training import machine, run


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
