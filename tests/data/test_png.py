"""The fast reader of ordinary PNGs: exact, and silent about nothing that is damaged or of another kind."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.data.png import PngHeader, decode_plain, inflate, png_header, read_top


def noise(*shape: int) -> NDArray[np.uint8]:
    """Smooth in one half, so that an encoder takes several row filters."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels[: shape[0] // 2] = np.arange(shape[1], dtype=np.uint8).reshape(-1, *[1] * (len(shape) - 2))
    return pixels


def png(image: "Image.Image", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0, 6])
def test_pixels_are_those_that_were_saved(channels: int, level: int) -> None:
    pixels = noise(31, 45, channels)
    decoded = decode_plain(png(Image.fromarray(pixels.squeeze()), compress_level=level), channels=channels)
    np.testing.assert_array_equal(decoded, pixels)


def test_other_kinds_are_left_to_the_slower_reader() -> None:
    colours, grey = Image.fromarray(noise(9, 11, 3)), Image.fromarray(noise(9, 11))
    for image in (colours.quantize(8), colours.convert("RGBA"), grey.convert("LA"), grey.convert("1"), grey):
        assert decode_plain(png(image), channels=3) is None
    assert decode_plain(png(colours), channels=1) is None
    assert decode_plain(png(Image.fromarray(np.zeros((4, 4), np.uint16))), channels=1) is None
    for nothing in (b"", b"hello", png(colours)[:20]):
        assert decode_plain(nothing, channels=3) is None


@pytest.mark.parametrize("level", [0, 6])
def test_no_damaged_file_is_decoded(level: int) -> None:
    whole = png(Image.fromarray(noise(40, 40, 3)), compress_level=level)
    assert decode_plain(whole, channels=3) is not None
    for place in range(16, len(whole), 53):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        assert decode_plain(bytes(damaged), channels=3) is None
    for place in range(16, 29):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        assert decode_plain(bytes(damaged), channels=3) is None
    for end in range(1, len(whole), 53):
        assert decode_plain(whole[:-end], channels=3) is None


def test_a_header_that_claims_more_than_the_file_can_hold_takes_no_memory() -> None:
    whole = bytearray(png(Image.fromarray(noise(40, 40, 3))))
    whole[16:24] = struct.pack(">II", 100_000, 100_000)
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    assert decode_plain(bytes(whole), channels=3) is None


@pytest.mark.parametrize("rows", [1, 20, 39, 40, 77])
def test_the_top_rows_are_those_of_the_whole_image(tmp_path: Path, rows: int) -> None:
    pixels = noise(40, 30, 3)
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(pixels)))
    top = read_top(str(tmp_path / "a.png"), rows=rows, size=(40, 30))
    np.testing.assert_array_equal(top, pixels[:rows])


def test_the_top_of_what_is_not_as_expected_is_left_to_the_reader_of_whole_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(noise(40, 30, 3))))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    assert read_top(str(tmp_path / "a.png"), rows=7, size=(40, 31)) is None
    assert read_top(str(tmp_path / "a.jpg"), rows=7, size=(40, 30)) is None
    assert read_top(str(tmp_path / "b.png"), rows=7, size=(40, 30)) is None


def with_content(palette: bytes, content: bytes) -> tuple[bytes, PngHeader]:
    """A palette PNG whose pixels are replaced."""
    chunk = b"IDAT" + content
    data = b"".join(
        (palette[:33], struct.pack(">I", len(content)), chunk, struct.pack(">I", zlib.crc32(chunk)), palette[-12:])
    )
    return data, png_header(data, "m.png")


def test_a_palette_png_takes_no_more_memory_than_its_header_says() -> None:
    palette, rows = png(Image.fromarray(noise(4, 6), mode="P")), noise(4, 7)
    data, header = with_content(palette, zlib.compress(rows.tobytes()))
    np.testing.assert_array_equal(inflate(data, header), rows)
    bomb = zlib.compress(bytes(1 << 26))
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="its content is not the 28 bytes that 4 x 6 pixels take"):
            inflate(*with_content(palette, bomb))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_pixels_without_their_checksum_are_not_whole(cut: int) -> None:
    palette, rows = png(Image.fromarray(noise(4, 6), mode="P")), noise(4, 7)
    with pytest.raises(ValueError, match="28 bytes"):
        inflate(*with_content(palette, zlib.compress(rows.tobytes())[:-cut]))
