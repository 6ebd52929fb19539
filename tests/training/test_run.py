"""Whole runs as a user starts them: resumed to the bit, on two ranks, with W&B offline, on real images."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import SMALL_RUN

pytestmark = pytest.mark.slow

SECRETS = {
    "WANDB_API_KEY": "5ecre7" * 6 + "beef",  # pragma: allowlist secret
    "HF_TOKEN": "hf_thisIsNobodysToken",
    "AWS_SECRET_ACCESS_KEY": "nobodysSecretAccessKey",  # pragma: allowlist secret
}
SMALL = (*SMALL_RUN, "model.dropout=0", "data.train.length=30", "data.val.length=5")


def _command(store: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "atrous.commands.train", *SMALL, f"store={store}", *overrides]


def _train(store: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        _command(store, *overrides), capture_output=True, text=True, env=variables, timeout=300, check=False
    )


def _only_run(store: Path) -> Path:
    runs = sorted(store.glob("runs/*/seed*"))
    assert len(runs) == 1, runs
    return runs[0]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {**content["state_dict"], **_flat(content["optimizer_states"])}


def _flat(node: Any, prefix: str = "optimizer") -> dict[str, torch.Tensor]:
    if isinstance(node, torch.Tensor):
        return {prefix: node}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return {name: value for key, child in items for name, value in _flat(child, f"{prefix}.{key}").items()}


def _results(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    return results


def _is_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed")
    done = _train(store, "recipe.max_steps=8", "trainer.checkpoint_every=2")
    assert done.returncode == 0, done.stdout + done.stderr
    return _only_run(store)


def _steps(run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream) if row["train/loss"]]


def test_a_run_leaves_its_config_status_metrics_and_results(undisturbed: Path) -> None:
    assert json.loads((undisturbed / "status.json").read_text())["state"] == "done"
    assert _steps(undisturbed) == list(range(1, 9))
    results = _results(undisturbed)
    assert results["evaluations"]["single"]["images"] == 5
    assert results["evaluations"]["single"]["pixels"] == 5 * 65 * 65
    assert results["model"]["parameters"] > 0


@pytest.mark.exhaustive
def test_a_stopped_run_goes_on_to_the_same_bits(undisturbed: Path, tmp_path: Path) -> None:
    stopped = _train(tmp_path, "recipe.max_steps=8", "trainer.stop_at_step=3")
    assert "stopped at step 3" in stopped.stdout
    run = _only_run(tmp_path)
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    assert _train(tmp_path, "recipe.max_steps=8").returncode == 0
    assert _is_equal(_weights(run), _weights(undisturbed))
    assert (
        _results(run)["evaluations"]["single"]["confusion"]
        == _results(undisturbed)["evaluations"]["single"]["confusion"]
    )
    assert _steps(run) == list(range(1, 9))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "changed",
    [
        "trainer.channels_last=false",
        "trainer.activation_checkpointing=none",
        "trainer.activation_checkpointing=units",
        "trainer.cpu_kernels=pytorch",
        "trainer.cpu_allocator=pytorch",
        "trainer.devices=2",
        "trainer.compile=true",
        "data.num_workers=2",
    ],
)
def test_a_run_that_goes_on_with_other_keys_of_the_machine_ends_near_the_undisturbed_one(
    undisturbed: Path, tmp_path: Path, changed: str
) -> None:
    assert _train(tmp_path, "recipe.max_steps=8", "trainer.stop_at_step=6").returncode == 0
    done = _train(tmp_path, "recipe.max_steps=8", changed)
    assert done.returncode == 0, done.stdout + done.stderr
    found, expected = _weights(_only_run(tmp_path)), _weights(undisturbed)
    assert found.keys() == expected.keys()
    momenta = [name for name in expected if name.endswith("momentum_buffer")]
    assert momenta
    for name in momenta:
        assert (found[name] - expected[name]).norm() <= 0.05 * expected[name].norm() + 1e-6, name


@pytest.mark.exhaustive
def test_parts_that_are_computed_twice_change_no_bit(undisturbed: Path, tmp_path: Path) -> None:
    assert _train(tmp_path, "recipe.max_steps=8", "trainer.activation_checkpointing=units").returncode == 0
    assert _is_equal(_weights(_only_run(tmp_path)), _weights(undisturbed))


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_gives_the_weights_of_the_plain_one(undisturbed: Path, tmp_path: Path) -> None:
    done = _train(tmp_path, "recipe.max_steps=8", "trainer.compile=true")
    assert done.returncode == 0, done.stdout + done.stderr
    trained, expected = _weights(_only_run(tmp_path)), _weights(undisturbed)
    assert trained.keys() == expected.keys()
    assert all(torch.allclose(value, expected[name], atol=1e-3) for name, value in trained.items() if "weight" in name)


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
def test_a_killed_run_goes_on_to_the_same_bits(undisturbed: Path, tmp_path: Path) -> None:
    overrides = ("recipe.max_steps=8", "trainer.checkpoint_every=2")
    with subprocess.Popen(_command(tmp_path, *overrides), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3/"):
                break
        process.send_signal(signal.SIGKILL)
    run = _only_run(tmp_path)
    job = json.loads((run / "status.json").read_text())["pid"]
    deadline = time.monotonic() + 60
    while Path(f"/proc/{job}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{job}").exists(), "the job outlived the command that started it"
    assert json.loads((run / "status.json").read_text())["state"] != "done"
    assert _train(tmp_path, *overrides).returncode == 0
    assert _is_equal(_weights(run), _weights(undisturbed))


@pytest.mark.no_cover
def test_a_run_that_is_asked_to_end_in_a_validation_ends_with_its_loaders(tmp_path: Path) -> None:
    overrides = ("recipe.max_steps=8", "trainer.val_every=1", "data.val.length=500", "data.num_workers=1")
    with subprocess.Popen(_command(tmp_path, *overrides), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1/"):
                break
        status = _only_run(tmp_path) / "status.json"
        os.kill(json.loads(status.read_text())["pid"], signal.SIGTERM)  # as SLURM asks a job
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    assert json.loads(status.read_text())["reason"] == "stopped at step 1"


@pytest.mark.no_cover
def test_a_run_whose_output_nobody_reads_any_more_saves_where_it_is(tmp_path: Path) -> None:
    command = _command(tmp_path, "recipe.max_steps=800", "trainer.log_every=1", "trainer.checkpoint_every=1000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 2/"):
                break
        process.stdout.close()  # as Ctrl-C ends `| tee log` beside the command
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode == 130
    run = _only_run(tmp_path)
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["reason"]) == ("stopped", f"stopped at step {status['step']}")
    assert (run / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.exhaustive
def test_ctrl_c_saves_where_it_is_and_the_same_command_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    command = _command(tmp_path, "recipe.max_steps=8")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 2/"):
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    run = _only_run(tmp_path)
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "stopped"
    assert 2 <= status["step"] < 8
    assert _train(tmp_path, "recipe.max_steps=8").returncode == 0
    assert _is_equal(_weights(run), _weights(undisturbed))


@pytest.mark.exhaustive
def test_a_truncated_last_checkpoint_costs_its_steps_and_no_bit(undisturbed: Path, tmp_path: Path) -> None:
    # No validation: before one, and behind it, the state is saved as well.
    overrides = ("recipe.max_steps=8", "trainer.checkpoint_every=2", "trainer.val_every=100")
    assert _train(tmp_path, *overrides, "trainer.stop_at_step=5").returncode == 0
    run = _only_run(tmp_path)
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-2000])
    done = _train(tmp_path, *overrides)
    assert done.returncode == 0, done.stderr
    assert "kept as last.ckpt.damaged-1: going on from previous.ckpt, step 4" in done.stderr
    assert _is_equal(_weights(run), _weights(undisturbed))
    assert _steps(run) == list(range(1, 9))


@pytest.mark.exhaustive
def test_a_run_that_was_killed_behind_its_last_step_is_recorded_and_measured(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / undisturbed.relative_to(undisturbed.parents[2])
    shutil.copytree(undisturbed, run)
    expected = _results(run)
    (run / "results.json").unlink()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "running"}))
    assert _train(tmp_path, "recipe.max_steps=8", "trainer.checkpoint_every=2").returncode == 0
    found = _results(run)
    assert found["model"] == expected["model"]
    assert found["training"].keys() == expected["training"].keys() - {"peak_memory_mib"}
    assert found["training"]["seconds"] == pytest.approx(expected["training"]["seconds"], rel=0.2, abs=1.0)


def test_a_finished_run_is_not_trained_again(undisturbed: Path) -> None:
    before = (undisturbed / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    again = _train(undisturbed.parents[2], "recipe.max_steps=8")
    assert "done before" in again.stdout
    assert (undisturbed / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


@pytest.mark.exhaustive
def test_another_protocol_of_a_finished_run_only_evaluates(undisturbed: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "atrous.commands.evaluate",
        f"run={undisturbed}",
        "protocol=single_os8,single",
        "threads=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "single_os8: mIoU" in done.stdout
    assert set(_results(undisturbed)["evaluations"]) == {"single", "single_os8"}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The store of a run on two ranks with W&B and secrets in its environment, and what it printed."""
    store = tmp_path_factory.mktemp("ranks")
    overrides = ("recipe.max_steps=8", "trainer.devices=2", "trainer.val_every=8", "logger=wandb")
    done = _train(store, *overrides, WANDB_MODE="offline", **SECRETS)
    assert done.returncode == 0, done.stdout + done.stderr
    return store, done.stdout + done.stderr


def test_no_secret_of_the_environment_is_written_down(two_ranks: tuple[Path, str]) -> None:
    store, printed = two_ranks
    files = [path for path in store.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for secret in SECRETS.values():
        assert secret not in printed
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_two_ranks_share_one_folder_and_count_the_same_pixels(undisturbed: Path, two_ranks: tuple[Path, str]) -> None:
    run = _only_run(two_ranks[0])
    assert len(list(run.glob("wandb/offline-run-*"))) == 1
    with (run / "metrics.csv").open(newline="") as stream:
        validated = [row for row in csv.DictReader(stream) if row["val/pixels"]]
    assert [(row["step"], int(float(row["val/pixels"]))) for row in validated] == [("8", 5 * 65 * 65)]
    single = _results(run)["evaluations"]["single"]
    assert float(validated[0]["val/miou"]) == pytest.approx(single["miou"], abs=1e-6)
    trained, expected = _weights(run), _weights(undisturbed)
    assert all(torch.allclose(value, expected[name], atol=1e-3) for name, value in trained.items() if "weight" in name)


@pytest.mark.exhaustive
def test_a_broken_image_fails_the_run_by_its_name_and_is_not_taken_for_finished(tmp_path: Path, voc: Path) -> None:
    image = voc / "VOCdevkit" / "VOC2012" / "JPEGImages" / "train1.jpg"
    image.write_bytes(image.read_bytes()[:200])
    overrides = ("data=voc", f"data.root={voc}", "recipe.max_steps=6", "recipe.crop_size=33", "data.train.split=train")
    words = [text for text in SMALL if not text.startswith(("data.train", "data.val."))]
    command = [
        sys.executable,
        "-m",
        "atrous.commands.train",
        *words,
        f"store={tmp_path}",
        *overrides,
        "data.evaluation_size=[65,65]",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert image.name in done.stderr
    status = json.loads((_only_run(tmp_path) / "status.json").read_text())
    assert status["state"] == "failed"
    assert image.name in status["reason"]


@pytest.fixture
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("voc")
    home = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    for split in ("train", "val"):
        (home / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{split}1\n{split}2\n")
        for number in (1, 2):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "JPEGImages" / f"{split}{number}.jpg")
            mask = Image.fromarray(pixels[..., 0] % 21)
            mask.save(home / "SegmentationClass" / f"{split}{number}.png")
    return root


@pytest.mark.exhaustive
def test_a_chained_run_starts_from_the_weights_of_the_one_before(tmp_path: Path) -> None:
    # A learning rate of next to nothing: what the child has learnt is what its parent had.
    done = _train(
        tmp_path,
        "recipe.max_steps=1",
        "recipe.optimizer.lr=1e-12",
        "recipe.batch_norm.frozen=true",
        "parent=['recipe.max_steps=3','recipe.optimizer.lr=0.1','recipe.batch_norm.frozen=false']",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {json.loads((run / "run.json").read_text())["max_steps"]: run for run in tmp_path.glob("runs/*/seed*")}
    parent, child = (_model(runs[steps]) for steps in (3, 1))
    assert json.loads((runs[1] / "run.json").read_text())["parent"] == str(runs[3])
    assert all(
        torch.allclose(value, parent[name], atol=1e-6) for name, value in child.items() if value.is_floating_point()
    )


def _model(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state
