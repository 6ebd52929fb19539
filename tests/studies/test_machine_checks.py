"""What a run asks of a device: this machine is asked only where it is the one that the run starts on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from atrous import hardware
from atrous.errors import ConfigError
from atrous.studies import jobs, local
from atrous.studies.machine_checks import machine_problems


def _problems(accelerator: str, precision: str = "auto", *, devices: int = 1) -> list[str]:
    trainer = {"accelerator": accelerator, "devices": devices}
    config: dict[str, Any] = {"trainer": trainer, "recipe": {"precision": precision}}
    return list(machine_problems(config))


@pytest.fixture(params=[False, True], ids=["checked elsewhere", "starts here"])
def starts_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a command's task runs."""
    here: bool = request.param
    monkeypatch.setattr(HydraConfig, "initialized", lambda: here)
    return here


@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
@pytest.mark.parametrize("has_cuda", [False, True])
def test_a_gpu_has_to_be_there_where_a_run_starts(
    accelerator: str, has_cuda: bool, starts_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: has_cuda)
    problems = _problems(accelerator, "16-mixed")
    assert len(problems) == int(starts_here and not has_cuda)
    assert all(
        f"trainer.accelerator='{accelerator}'" in text and "trainer.accelerator=cpu" in text for text in problems
    )


def test_half_precision_is_refused_on_a_cpu_wherever_it_is_known(
    starts_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    assert len(_problems("auto", "16-mixed")) == int(starts_here)
    (problem,) = _problems("cpu", "16-mixed")
    assert "recipe.precision='16-mixed' needs a GPU" in problem
    assert "bf16-mixed" in problem
    assert _problems("cpu", "bf16-mixed") == []
    monkeypatch.setattr(hardware, "has_cuda", lambda: True)
    assert _problems("auto", "16-mixed") == []


def test_pytorch_is_not_asked_where_no_gpu_is_wanted(starts_here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: pytest.fail("PyTorch was asked"))
    assert _problems("auto") == _problems("cpu") == []
    (problem,) = _problems("tpu")
    assert problem == "trainer.accelerator='tpu': one of auto, cpu, gpu, cuda"


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cpu"])
@pytest.mark.parametrize("has_cuda", [False, True])
def test_a_machine_has_to_have_the_gpus_of_a_run_that_starts_there(
    accelerator: str, has_cuda: bool, starts_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: has_cuda)
    monkeypatch.setattr(hardware, "gpu_count", lambda: 2 if has_cuda else 0)
    told = [text for text in _problems(accelerator, devices=4) if "trainer.devices" in text]
    assert [text.split(":")[0] for text in told] == ["trainer.devices=4, but PyTorch finds 2 GPUs here"] * int(
        starts_here and has_cuda and accelerator != "cpu"
    )
    assert not [text for text in _problems(accelerator, devices=2) if "trainer.devices" in text]


def test_a_run_that_is_done_asks_no_machine_for_its_score(
    composed: Callable[..., DictConfig], fake_jobs: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["data=shapes", "trainer.accelerator=gpu", f"store={tmp_path}"]
    jobs.run(jobs.prepare(composed(*overrides), overrides), capture=True)
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    assert jobs.prepare(composed(*overrides), overrides).todo == []
    overrides.append("seed=1")
    with pytest.raises(ConfigError, match=r"trainer\.accelerator='gpu', but PyTorch finds no GPU"):
        jobs.prepare(composed(*overrides), overrides)


def test_a_sweep_on_this_machine_asks_it_before_its_first_job(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    rows = [[f"store={tmp_path / 'store'}", f"trainer.accelerator={name}"] for name in ("cpu", "gpu")]
    with pytest.raises(ConfigError, match=r"trainer\.accelerator='gpu', but PyTorch finds no GPU here"):
        local.launch(rows, lambda overrides: composed(*overrides), jobs_at_once=None, fail_fast=False)
    assert not (tmp_path / "store").exists()
    assert len(local.prepare_all(rows, lambda overrides: composed(*overrides))) == 2  # for a cluster


def test_fewer_validation_images_than_devices_are_refused_before_anything_starts(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    overrides = ["data=shapes", "data.val.length=3", "trainer.devices=4", f"store={tmp_path / 'store'}"]
    with pytest.raises(
        ConfigError, match=r"trainer\.devices: 4 devices .* data\.val, of which there are 3: at most 3 "
    ):
        jobs.prepare(composed(*overrides), overrides)
    assert not (tmp_path / "store").exists()
    overrides += ["recipe.max_steps=10", "trainer.val_every=11"]
    assert jobs.prepare(composed(*overrides), overrides).todo
