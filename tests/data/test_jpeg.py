"""What a JPEG's header says of its size, and that a file of too few bytes for it is none."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data.files import read_image
from atrous.data.jpeg import check_can_hold, jpeg_size
from atrous.errors import DataError

SMALLEST = {"progressive": True, "optimize": True, "quality": 1}
START_OF_SCAN = b"\xff\xda"


def jpeg(image: "Image.Image", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(300)}, {"quality": 100}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_size_is_the_headers(mode: str, options: dict[str, Any]) -> None:
    data = jpeg(Image.new(mode, (51, 37)), **options)
    assert jpeg_size(data) == (37, 51)
    frame = data.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0")
    assert jpeg_size(data[:frame] + b"\xff\xff" + data[frame:]) == (37, 51)


def test_what_has_no_size_has_none() -> None:
    data = jpeg(Image.new("RGB", (51, 37)))
    frame = data.index(b"\xff\xc0")
    without, cut = data[:frame] + data[frame + 19 :], data[: frame + 8]
    for other in (b"", b"hello", b"\xff\xd8", b"\xff\xd8\xff\xd9", without, cut):
        assert jpeg_size(other) is None


def test_a_header_that_claims_more_than_the_bytes_can_hold_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    data = jpeg(Image.new("RGB", (6000, 6000)))
    path.write_bytes(data[: data.index(START_OF_SCAN) + 14] + b"\xff\xd9")
    assert path.stat().st_size < 700
    with pytest.raises(DataError, match=r"empty\.jpg' is truncated or corrupt \(\d+ bytes cannot hold its 6000x6000"):
        read_image(path)


@pytest.mark.parametrize("side", [1, 8, 129, 6000])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_colour_in_as_few_bytes_as_there_are_is_whole(mode: str, side: int) -> None:
    data = jpeg(Image.new(mode, (side, side), "grey"), **SMALLEST)
    check_can_hold(data, "grey.jpg")
    assert side * side < 256 * len(data), "half of what is refused"


def test_the_smallest_real_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "grey.jpg").write_bytes(jpeg(Image.new("L", (2000, 2000), 128), **SMALLEST))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.jpg"), np.full((2000, 2000, 3), 128))
