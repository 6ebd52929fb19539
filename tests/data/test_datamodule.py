"""The data module in Lightning's hands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from atrous.data import VOC2012, SegmentationDataModule
from atrous.errors import ConfigError

MakeVoc = Callable[..., Path]


def data_module(home: Path, **changes: Any) -> SegmentationDataModule:
    return SegmentationDataModule(
        **{
            "train": VOC2012(root=home, split="train"),
            "val": VOC2012(root=home, split="val"),
            "crop_size": 33,
            "batch_per_device": 2,
            "max_steps": 8,
            **changes,
        }
    )


class Recorder(pl.LightningModule):
    """Writes down what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)
        self.seen: list[tuple[int, list[int], int] | str] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append((self.global_step, batch["index"].tolist(), int(batch["image"].sum())))
        return self.weight(torch.ones(1, 1)).sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen.append(f"val {batch['index'].tolist()}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: SegmentationDataModule, *, callbacks: list[pl.Callback], ckpt_path: str | None = None) -> list[Any]:
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=8,
        max_epochs=-1,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, module, ckpt_path=ckpt_path)
    return recorder.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("step", [3, 4, 6])
def test_a_resumed_fit_sees_the_batches_and_validations_of_the_uninterrupted_one(
    voc_home: Path, tmp_path: Path, step: int
) -> None:
    save = ModelCheckpoint(
        dirpath=tmp_path / "saved",
        filename="{step}",
        every_n_train_steps=step,
        save_top_k=-1,
        save_on_train_epoch_end=False,
    )
    whole = fit(data_module(voc_home), callbacks=[save])
    module = data_module(voc_home)
    module.start_step = step
    resumed = fit(module, callbacks=[], ckpt_path=str(tmp_path / "saved" / f"step={step}.ckpt"))
    assert [seen for seen in whole if not isinstance(seen, str)][-1][0] == 7
    first = whole.index(resumed[0])
    # Lightning saves inside the step, before the validation that is due at it; that one is the caller's to repeat.
    assert resumed == whole[first:]
    assert resumed[0][0] == step


def test_without_a_trainer_it_loads_as_one_process(voc_home: Path) -> None:
    module = data_module(voc_home, val_batch_size=2, evaluation_size=(49, 65))
    module.setup("fit")
    assert len(module.train_dataloader()) == 8
    assert [batch["index"].tolist() for batch in module.val_dataloader()] == [[0, 1], [2]]


def test_a_validation_batch_of_several_images_needs_one_size(voc_home: Path) -> None:
    with pytest.raises(ConfigError, match="val_batch_size=4 needs images of one size, but those of 'voc2012' differ"):
        data_module(voc_home, val_batch_size=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": (1, 2, 3)}, r"crop_size=\(1, 2, 3\): expected one positive number, or two as height, width"),
        ({"evaluation_size": [0, 5]}, r"evaluation_size=\[0, 5\]"),
        ({"scale_max": 0.1}, "scale_min=0.5, scale_max=0.1"),
    ],
)
def test_impossible_settings_are_refused(voc_home: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data_module(voc_home, **changes)


def test_lightnings_own_sampler_is_refused_when_ranks_share_the_data(
    voc_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = data_module(voc_home)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    monkeypatch.setattr(SegmentationDataModule, "replicas", (2, 0))
    with pytest.raises(ConfigError, match="build the Trainer with use_distributed_sampler=False"):
        module.setup("fit")


def test_ranks_validate_each_image_once(tmp_path: Path, make_voc: MakeVoc, monkeypatch: pytest.MonkeyPatch) -> None:
    module = data_module(make_voc(tmp_path, val=[f"v{i}" for i in range(7)]))
    indices = []
    for rank in range(3):
        monkeypatch.setattr(SegmentationDataModule, "replicas", (3, rank))
        indices += [batch["index"].item() for batch in module.val_dataloader()]
    assert sorted(indices) == list(range(7))


def test_a_rank_without_a_validation_image_is_refused_unless_nothing_is_validated(
    tmp_path: Path, make_voc: MakeVoc, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = data_module(make_voc(tmp_path, val=["v0", "v1"]))
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options: dict[str, Any] = {**quiet, "use_distributed_sampler": False}
    monkeypatch.setattr(SegmentationDataModule, "replicas", (3, 0))
    module.trainer = pl.Trainer(**options)
    with pytest.raises(
        ConfigError, match=r"trainer\.devices: 3 devices .* data\.val, of which there are 2: at most 2 "
    ):
        module.setup("fit")
    module.trainer = pl.Trainer(**options, limit_val_batches=0)
    module.setup("fit")
