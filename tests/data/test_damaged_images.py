"""Images, masks, labels and counts whose files were damaged: read, or refused with the project's own error."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from atrous.data.files import image_size, read_image, read_mask
from atrous.data.preparation.sbd import read_sbd_label
from atrous.errors import DataError

from ..conftest import ReadDamaged

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
COLOURS = Image.fromarray(PIXELS)
KINDS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "rgb.png": (COLOURS, {}),
    "grey.png": (Image.fromarray(PIXELS[:, :, 0]), {}),
    "palette.png": (COLOURS.quantize(16), {}),
    "bits.png": (COLOURS.quantize(4), {"bits": 2}),
    "alpha.png": (COLOURS.convert("RGBA"), {}),
    "deep.png": (Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257), {}),
    "rgb.jpg": (COLOURS, {"quality": 90}),
    "grey.jpg": (Image.fromarray(PIXELS[:, :, 0]), {"quality": 90}),
    "cmyk.jpg": (COLOURS.convert("CMYK"), {"progressive": True}),
    "a.bmp": (COLOURS, {}),
    "a.gif": (COLOURS.quantize(16), {}),
    "a.tif": (COLOURS, {}),
}


SIDES = [0, 1, 11, 20_000, 40_000, 2**31 - 1, 2**32 - 1]


def encoded(name: str) -> bytes:
    image, options = KINDS[name]
    stream = io.BytesIO()
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    ending = name.split(".")[1]
    image.save(stream, format=formats.get(ending, ending.upper()), **options)
    return stream.getvalue()


def with_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG whose header speaks of another size, with the right checksum."""
    header = png[12:16] + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@given(st.data())
def test_a_damaged_image_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "image"
    content = encoded(data.draw(st.sampled_from(sorted(KINDS))))
    if content.startswith(b"\x89PNG") and data.draw(st.booleans()):
        content = with_size(content, *data.draw(st.tuples(*[st.sampled_from(SIDES)] * 2)))

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read_image(path)

    image = read_damaged(data, content, read)
    assert image is None or (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


@given(st.data())
def test_a_damaged_mask_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "mask"
    content = encoded(data.draw(st.sampled_from(["grey.png", "palette.png", "bits.png", "rgb.png"])))
    if data.draw(st.booleans()):
        content = with_size(content, *data.draw(st.tuples(*[st.sampled_from(SIDES)] * 2)))

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read_mask(path, colours=True)

    mask = read_damaged(data, content, read)
    assert mask is None or mask.dtype == np.uint8


@given(st.data())
def test_the_size_of_a_damaged_image_is_told_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "size"
    content = encoded(data.draw(st.sampled_from(sorted(KINDS))))
    if content.startswith(b"\x89PNG") and data.draw(st.booleans()):
        content = with_size(content, *data.draw(st.tuples(*[st.sampled_from(SIDES) | st.integers(0, 2**32 - 1)] * 2)))

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return image_size(path)

    size = read_damaged(data, content, read)
    assert size is None or all(type(side) is int for side in size)


@given(st.data())
def test_a_damaged_label_of_sbd_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "label.mat"
    stream = io.BytesIO()
    fields = {"Boundaries": np.zeros((3, 1)), "Segmentation": PIXELS[:, :, 0] % 21, "CategoriesPresent": np.arange(3)}
    savemat(stream, {"GTcls": fields}, do_compression=True)

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read_sbd_label(path)

    label = read_damaged(data, stream.getvalue(), read)
    assert label is None or label.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 2**31 - 1), (40_000, 40_000)])
def test_a_header_that_claims_billions_of_pixels_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(with_size(encoded("rgb.png"), *size))
    (tmp_path / "m.png").write_bytes(with_size(encoded("palette.png"), *size))
    for read, name in ((read_image, "a.png"), (read_mask, "m.png"), (image_size, "a.png")):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


def test_a_label_of_sbd_that_has_no_checksum_is_refused(tmp_path: Path) -> None:
    """SciPy's reader ends the whole process on some damaged ones; SBD's are compressed, which has a sum."""
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": PIXELS[:, :, 0] % 21}}, do_compression=False)
    with pytest.raises(DataError, match=r"a\.mat.*compressed"):
        read_sbd_label(tmp_path / "a.mat")
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(b"\0" + content[1:])  # SciPy takes that for the older level 4
    with pytest.raises(DataError, match=r"a\.mat.*does not begin"):
        read_sbd_label(tmp_path / "a.mat")
