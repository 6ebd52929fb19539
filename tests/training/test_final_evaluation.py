"""The evaluation that ends a run: how far it is can be seen, a layer is a sign of life, and one that hangs is ended."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.profiler import ProfilerActivity, profile

from atrous import DeepLabV3, progress
from atrous.data.shapes import Shapes
from atrous.exit_codes import TEMPORARY
from atrous.run_store import RunFolder
from atrous.training import final_evaluation
from atrous.training.final_evaluation import evaluate_finished

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a watchdog that ends


Config = Callable[..., dict[str, Any]]


@pytest.fixture
def config(scored_config: dict[str, Any]) -> Config:
    """The config of a run, with some of its `trainer` changed."""
    trainer = {"accelerator": "cpu", "tf32": False, "progress": True, "timeout_seconds": 0}
    rest = {**scored_config, "submission": None, "boundary": False}
    return lambda **changed: {**rest, "trainer": {**trainer, **changed}}


@pytest.fixture
def val_set() -> Shapes:
    return Shapes(split="val", length=4, size=65)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.set_status("running", step=8)
    return folder


def test_a_long_one_says_how_far_it_is_and_a_short_one_nothing(
    run: RunFolder,
    config: Config,
    model: DeepLabV3,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    val_set = Shapes(split="val", length=4, size=65)
    evaluate_finished(run, config(), model, val_set, ["single"])
    assert capsys.readouterr() == ("", "")
    for module in (final_evaluation, progress):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    evaluate_finished(run, config(), model, val_set, ["single", "single_os8"])
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"evaluating, image: {done} of 4" for done in range(1, 5)]
    assert said.out == ""
    assert run.status()["evaluating"] == "4/4"
    assert set(run.results()["evaluations"]) == {"single", "single_os8"}
    assert not [module for module in model.modules() if module._forward_hooks], "the network is as it was"
    run.set_status("done", step=8)
    assert "evaluating" not in run.status()


def test_a_run_that_is_done_stays_so_while_further_protocols_are_measured(
    run: RunFolder, config: Config, model: DeepLabV3, val_set: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.set_status("done", step=8)
    before = (run.path / "status.json").read_bytes()
    monkeypatch.setattr(final_evaluation, "SECONDS_BETWEEN_LINES", 0.0)
    evaluate_finished(run, config(), model, val_set, ["single_os8"])
    assert (run.path / "status.json").read_bytes() == before


def test_signs_of_life_cost_no_map(run: RunFolder, config: Config, model: DeepLabV3, val_set: Shapes) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        evaluate_finished(run, config(), model, val_set, ["single"])
    calls = {event.key: event.count for event in seen.key_averages()}
    assert calls["aten::relu_"] > 0
    assert "aten::relu" not in calls, "ReLU writes over its input, as without hooks"


@pytest.mark.parametrize("each", [0.15, 60.0])
def test_many_slow_layers_may_take_longer_than_the_time_out_and_one_may_not(
    run: RunFolder, config: Config, model: DeepLabV3, ended: list[int], each: float
) -> None:
    began = time.monotonic()

    def wait(*_: Any) -> None:
        until = min(time.monotonic() + each, began + 30)
        while time.monotonic() < until and not ended:
            time.sleep(0.02)

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(wait)
    val_set = Shapes(split="val", length=1, size=65)
    evaluate_finished(run, config(timeout_seconds=2.0), model, val_set, ["single"])
    if each < 1:
        assert ended == []
        assert time.monotonic() > began + 2.1, "the image took longer than the time out"
    else:
        assert ended == [TEMPORARY]
        reason = run.status()["reason"]
        assert "rank 0 showed no sign of life for 2 s (trainer.timeout_seconds) after the evaluation began" in reason
