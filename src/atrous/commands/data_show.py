"""atrous-data show: the training crops that a run would see, with their labels, as a page or a PNG."""

from functools import partial
from html import escape
from pathlib import Path

from omegaconf import DictConfig

from atrous.building import build
from atrous.errors import ConfigError
from atrous.files import write_atomically, write_text
from atrous.studies.configuration import resolve


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
    from atrous.data.datamodule import SegmentationDataModule  # seconds, which no mistake above waits for
    from atrous.data.inspection.crops import training_crops
    from atrous.data.inspection.document import document, legend, samples
    from atrous.data.inspection.sheet import draw_sheet

    recipe = plain["recipe"]
    dataset = build(plain["data"]["train"], where="data.train")
    # The data module's own samples: what is shown is what a training with this config would get.
    crops_of = SegmentationDataModule(
        train=dataset,
        val=dataset,
        crop_size=recipe["crop_size"],
        batch_per_device=1,
        max_steps=1,
        seed=seed,
        **recipe["augmentation"],
    ).train_samples
    figures = training_crops(crops_of, epoch=epoch, count=plain["samples"])
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
