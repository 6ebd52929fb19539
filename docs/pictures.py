"""The pictures of the README: samples of `shapes`, and predictions of runs at several output strides.

python docs/pictures.py samples docs/images/shapes.png
python docs/pictures.py predictions docs/images/predictions.png RUN_FOLDER...
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from atrous.data import Shapes
from atrous.data.preprocessing import Preprocessing
from atrous.data.shapes import SHAPES_SPEC
from atrous.run_store import RunFolder
from atrous.training.checkpoints import load_weights
from atrous.training.run import build_model

Picture = NDArray[np.uint8]
SCENES = (4, 7, 12, 27, 30, 41)
GAP, ZOOM, INK = 6, 2, (40, 40, 40)
PALETTE = np.array(SHAPES_SPEC.palette, np.uint8)


def samples() -> Picture:
    """Scenes above their labels, and the names of the classes."""
    pairs = [Shapes(split="val").read(scene) for scene in SCENES]
    rows = [_row([image for image, _ in pairs]), _row([PALETTE[label] for _, label in pairs])]
    return _column([*rows, _legend(rows[0].shape[1])])


def predictions(folders: Sequence[Path]) -> Picture:
    """Scenes, truth, and a row of predictions for each run."""
    pairs = [Shapes(split="val").read(scene) for scene in SCENES]
    rows = [_row([image for image, _ in pairs], "image"), _row([PALETTE[label] for _, label in pairs], "truth")]
    for folder in folders:
        run = RunFolder(folder)
        config = yaml.safe_load(run.config_file.read_text())
        model = build_model(config, num_classes=SHAPES_SPEC.num_classes).eval()
        load_weights(model, run.last_checkpoint)
        images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
        extent = torch.tensor([images.shape[-2:]] * len(images))
        with torch.inference_mode():
            preprocessing = Preprocessing.named(config["recipe"]["preprocessing"])
            labels = model(preprocessing.normalise(images, extent)).argmax(1).numpy()
        score = 100 * run.results()["evaluations"]["single"]["miou"]
        title = f"output stride {config['output_stride']}: mIoU {score:.1f}"
        rows.append(_row([PALETTE[label] for label in labels], title))
    return _column([*rows, _legend(rows[0].shape[1])])


def _row(pictures: Sequence[Picture], title: str = "") -> Picture:
    tiles = [cv2.resize(picture, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST) for picture in pictures]
    height = tiles[0].shape[0]
    parts = [part for tile in tiles for part in (tile, np.full((height, GAP, 3), 255, np.uint8))][:-1]
    row: Picture = np.concatenate(parts, 1)
    if title:
        strip = np.full((30, row.shape[1], 3), 255, np.uint8)
        cv2.putText(strip, title, (2, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.6, INK, 1, cv2.LINE_AA)
        row = np.concatenate([strip, row], 0)
    return row


def _column(rows: Sequence[Picture]) -> Picture:
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    result: Picture = np.concatenate([part for row in rows for part in (row, gap)], 0)
    return result


def _legend(width: int) -> Picture:
    strip = np.full((34, width, 3), 255, np.uint8)
    step = width // SHAPES_SPEC.num_classes
    for index, (name, colour) in enumerate(zip(SHAPES_SPEC.classes, SHAPES_SPEC.palette, strict=True)):
        cv2.rectangle(strip, (index * step, 9), (index * step + 16, 25), colour, cv2.FILLED)
        cv2.putText(strip, name, (index * step + 21, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    return strip


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("samples", "predictions"))
    parser.add_argument("output", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    arguments = parser.parse_args()
    picture = samples() if arguments.what == "samples" else predictions(arguments.runs)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.output), picture[..., ::-1])


if __name__ == "__main__":
    main()
