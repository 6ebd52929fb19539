"""atrous-data show: the training crops that a run would see, with their labels, as a page or a PNG."""

from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from atrous.building import build, build_transforms
from atrous.errors import ConfigError
from atrous.files import write_atomically, write_text
from atrous.studies.configuration import resolve

if TYPE_CHECKING:
    from atrous.data.dataset import SegmentationDataset
    from atrous.data.samples import TrainSamples


def show(config: DictConfig) -> None:
    """Write the first crops of an epoch.

    Raises:
        ConfigError: the output is neither a page nor a PNG, or a number makes no sense.
        DataError: the data set cannot be opened or read.
    """
    plain = resolve(config)
    name, seed, epoch = plain["name"], plain["seed"], plain["epoch"]
    output = Path(config.output or Path(plain["store"]) / "data" / name / "crops.html")
    if output.suffix not in (".html", ".png"):
        raise ConfigError(f"output={str(output)!r}: must end with .html (a page) or .png (a picture)")
    if plain["samples"] < 1 or plain["columns"] < 1 or epoch < 0:
        raise ConfigError(
            f"samples={plain['samples']}, columns={plain['columns']} and epoch={epoch}: at least 1, 1 and 0"
        )
    from atrous.data.inspection.crops import training_crops  # seconds, which no mistake above waits for
    from atrous.data.inspection.document import document, legend, samples
    from atrous.data.inspection.sheet import draw_sheet

    recipe = plain["recipe"]
    dataset = build(plain["data"]["train"], where="data.train")
    figures = training_crops(_training_samples(plain, dataset), epoch=epoch, count=plain["samples"])
    crop, scales = recipe["crop_size"], recipe["augmentation"]
    title = f"Training crops of {name}"
    subtitle = (
        f"{crop}x{crop}, scale {scales['scale_min']:g} to {scales['scale_max']:g}, flip "
        f"{scales['flip_probability']:g}, seed {seed}, epoch {epoch}: the first {len(figures)} of {len(dataset)}"
    )
    if output.suffix == ".png":
        side = min(360, crop)
        sheet = draw_sheet(
            figures,
            dataset.spec,
            title=title,
            subtitle=subtitle,
            columns=plain["columns"],
            cell=(side, side),
            beside=True,
        )
        write_atomically(output, partial(sheet.save, format="PNG", optimize=True))
    else:
        body = f'<p class="soft">{escape(subtitle)}</p>{legend(dataset.spec)}'
        write_text(output, document(title, body + samples(figures, dataset.spec, beside=True)))
    print(f"{len(figures)} crops: {output}")  # noqa: T201


def _training_samples(plain: Mapping[str, Any], dataset: "SegmentationDataset") -> "TrainSamples":
    """The data module's own samples: what is shown is what a training with this config would get."""
    from atrous.data.datamodule import SegmentationDataModule

    recipe = plain["recipe"]
    return SegmentationDataModule(
        train=dataset,
        val=dataset,
        crop_size=recipe["crop_size"],
        batch_per_device=1,
        max_steps=1,
        seed=plain["seed"],
        **{
            **recipe["augmentation"],
            "transforms": build_transforms(
                recipe["augmentation"]["transforms"],
                where="recipe.augmentation.transforms",
                ignore_label=dataset.spec.ignore_label,
            ),
        },
    ).train_samples
