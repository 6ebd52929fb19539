"""Masks that Pillow writes."""

from pathlib import Path

import numpy as np
from PIL import Image

from atrous.data.pillow import voc_picture
from atrous.data.spec import VOC_SPEC


def test_a_mask_has_the_palette_of_voc_and_its_labels_as_indices(tmp_path: Path) -> None:
    voc_picture(np.arange(256).reshape(16, 16)).save(tmp_path / "m.png")
    image = Image.open(tmp_path / "m.png")
    assert image.mode == "P"
    colours = np.asarray(image.convert("RGB")).reshape(256, 3)
    assert [tuple(colour) for colour in colours[:21].tolist()] == list(VOC_SPEC.palette)
    assert tuple(colours[255]) == (224, 224, 192)
    np.testing.assert_array_equal(np.asarray(image).ravel(), np.arange(256))
