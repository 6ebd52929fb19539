"""PNG files of Cityscapes' size and layout, made from photographs: what they show is of no matter, their cost is."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from atrous.data.files import Pixels
from atrous.data.voc import VOC2012

HEIGHT, WIDTH = 1024, 2048
# Of a sensor, common to the channels and of each: with it a file has 2 to 3 MB, as Cityscapes' have.
_NOISE = (0.9, 0.3)


def make_street_scenes(root: Path, photographs: VOC2012, *, count: int) -> float:
    """Write a tree of `count` training images and `labelIds` masks in Cityscapes' layout.

    Args:
        root: gets leftImg8bit and gtFine.
        photographs: what is enlarged.
        count: of images.

    Returns:
        Mean size of an image's file, MB.
    """
    images, masks = (root / folder / "train" / "town" for folder in ("leftImg8bit", "gtFine"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    sizes = []
    for index in range(count):
        image, label = photographs.read(index)
        name, path = f"town_{index:06d}_000019", images / f"town_{index:06d}_000019_leftImg8bit.png"
        Image.fromarray(_enlarged(image, np.random.default_rng(index))).save(path)
        ids = cv2.resize(np.where(label == 255, 0, label), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        Image.fromarray(ids).save(masks / f"{name}_gtFine_labelIds.png")
        sizes.append(path.stat().st_size / 1e6)
    return float(np.mean(sizes))


def _enlarged(image: Pixels, rng: np.random.Generator) -> Pixels:
    large = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    common, separate = _NOISE
    noise = rng.normal(0, common, (HEIGHT, WIDTH, 1)) + rng.normal(0, separate, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(large + noise), 0, 255).astype(np.uint8)
