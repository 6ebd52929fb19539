"""Reading files: equal to Pillow on good ones, an error that names the file on bad ones."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from atrous.data.files import Pixels, check_labels, check_sizes, image_size, read_image, read_mask
from atrous.errors import DataError

SaveMask = Callable[[Path, Pixels], None]
Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_read_as_pillow_reads_them(scene: Scene, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(scene(0, 37, 51)[0]).save(path)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    read = read_image(path)
    assert read.dtype == np.uint8
    assert np.abs(read - expected).max() <= (2 if suffix == "jpg" else 0)
    assert image_size(path) == (37, 51)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_grayscale_images_become_rgb_with_equal_channels(scene: Scene, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gray.{suffix}"
    Image.fromarray(scene(0, 20, 30)[0]).convert("L").save(path)
    read = read_image(path)
    assert read.shape == (20, 30, 3)
    assert (read == read[:, :, :1]).all()
    assert np.abs(read[:, :, 0].astype(int) - np.asarray(Image.open(path))).max() <= (2 if suffix == "jpg" else 0)


def test_cmyk_jpegs_become_rgb_as_pillow_makes_them(scene: Scene, tmp_path: Path) -> None:
    image = scene(0, 32, 48)[0]
    inks = np.concatenate([255 - image, image[:, :, :1] // 2], axis=2)  # with black ink, so that every channel counts
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "inks.jpg", quality=95)
    expected = np.asarray(Image.open(tmp_path / "inks.jpg").convert("RGB")).astype(int)
    assert expected.std() > 20
    assert np.abs(read_image(tmp_path / "inks.jpg") - expected).max() <= 2


def test_a_tiff_in_cielab_has_the_colours_that_it_was_made_of(scene: Scene, tmp_path: Path) -> None:
    image = Image.fromarray(scene(0, 32, 48)[0])
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(image, to_lab)
    assert lab is not None
    lab.save(tmp_path / "lab.tif")
    differences = np.abs(read_image(tmp_path / "lab.tif").astype(int) - np.asarray(image))
    assert differences.mean() < 1.5, "8 bits of CIELAB are coarser than those of sRGB"


def test_palette_images_become_rgb_and_alpha_is_dropped(scene: Scene, tmp_path: Path) -> None:
    image = Image.fromarray(scene(0, 20, 30)[0])
    palette = image.quantize(16)
    palette.save(tmp_path / "palette.png")
    image.putalpha(77)
    image.save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), scene(0, 20, 30)[0])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_dropped_and_darkens_no_colour(scene: Scene, tmp_path: Path, suffix: str, mode: str) -> None:
    image, alpha = scene(0, 20, 30)[0], np.arange(600, dtype=np.uint16).reshape(20, 30) % 256
    both = Image.fromarray(image).convert("L" if mode == "LA" else "RGB")
    expected = np.asarray(both.convert("RGB"))
    both.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    both.save(tmp_path / f"alpha.{suffix}", lossless=True, exact=True)
    np.testing.assert_array_equal(read_image(tmp_path / f"alpha.{suffix}"), expected)


@pytest.mark.parametrize(
    ("suffix", "channels"), [("png", 1), ("png", 3), ("tif", 1), ("tif", 3), ("tif", 4), ("pgm", 1), ("ppm", 3)]
)
def test_an_image_of_16_bits_is_an_error_because_its_range_is_unknown(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), np.arange(80 * channels, dtype=np.uint16).reshape(8, 10, channels) * 50)
    with pytest.raises(DataError, match=rf"deep\.{suffix}' has more than 8 bits per channel; map the range"):
        read_image(path)


def test_an_exif_rotation_is_not_applied_because_masks_follow_the_stored_pixels(scene: Scene, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(0, 20, 30)[0]).save(tmp_path / "rotated.jpg", exif=exif)
    assert read_image(tmp_path / "rotated.jpg").shape == (20, 30, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_exif_says_where_that_is_asked_for(
    scene: Scene, tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif, path = Image.Exif(), tmp_path / f"photo.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(scene(0, 32, 48)[0]).save(path, exif=exif, quality=95)
    with Image.open(path) as photo:
        expected = np.asarray(ImageOps.exif_transpose(photo).convert("RGB")).astype(int)
    assert expected.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    assert np.abs(read_image(path, upright=True) - expected).max() <= (0 if suffix in ("png", "tif") else 3)


def test_palette_and_grayscale_masks_give_indices_in_every_png_variant(
    save_mask: SaveMask, scene: Scene, tmp_path: Path
) -> None:
    mask = scene(1, 33, 47)[1]
    save_mask(tmp_path / "palette.png", mask)
    Image.fromarray(mask).save(tmp_path / "gray.png")  # Pillow chooses row filters here
    few = (mask % 4).astype(np.uint8)
    four_bit = Image.fromarray(few, mode="P")
    four_bit.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    four_bit.save(tmp_path / "four_bit.png", bits=4)
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "gray.png"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "four_bit.png"), few)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_a_truncated_jpeg_is_an_error_that_names_it(tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"image '.*cut\.jpg' is truncated or corrupt \(\d+ bytes, no end marker\)"):
        read_image(path)


def test_bytes_after_the_end_marker_are_no_truncation(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "tail.jpg"
    Image.fromarray(scene(0, 20, 30)[0]).save(path)
    path.write_bytes(path.read_bytes() + b"\0\0tail")
    assert read_image(path).shape == (20, 30, 3)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_bytes_after_the_end_of_a_mask_are_no_truncation(save_mask: SaveMask, tmp_path: Path, count: int) -> None:
    label = np.arange(35, dtype=np.uint8).reshape(5, 7)
    save_mask(tmp_path / "m.png", label)
    with (tmp_path / "m.png").open("ab") as file:
        file.write(b"\xff" * count)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), label)


def test_a_large_image_of_another_format_is_not_called_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "large.bmp"
    Image.new("RGB", (20, 20)).save(path)
    with pytest.raises(DataError, match=r"image '.*large\.bmp' claims more than 200 pixels.*: save it as a PNG"):
        read_image(path)
    Image.new("RGB", (20, 20)).save(path.with_suffix(".jpg"))
    assert read_image(path.with_suffix(".jpg")).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image that can be read: JPEG, PNG, .*; convert it"),
        (b"%PDF-1.7\n1 0 obj", "is not an image that can be read: JPEG, PNG, .*; convert it"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is not an image that can be read: JPEG, PNG, .*; convert it"),
        (b"\xff\xd8\xff", "is truncated or corrupt"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is truncated or corrupt"),
    ],
)
def test_a_file_that_is_no_image_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.jpg' {message}"):
        read_image(tmp_path / "x.jpg")


def test_the_size_of_what_is_no_image_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"x\.jpg' is not an image that can be read: JPEG, PNG"):
        image_size(tmp_path / "x.jpg")


def test_postscript_is_not_run_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **_: runs.append(arguments))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", format="EPS")
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.jpg"):
            read(tmp_path / "a.jpg")
    assert not runs


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image '.*gone\.jpg' cannot be read \(No such file"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("keep", [0.5, 0.9, 20, -5])
def test_a_truncated_mask_is_an_error_that_names_it(save_mask: SaveMask, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "cut.png"
    save_mask(path, np.random.default_rng(0).integers(0, 21, (60, 70), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else int(keep)])
    if keep == -5:  # only the end marker is damaged: every index is there and its checksum holds
        assert read_mask(path).shape == (60, 70)
    else:
        with pytest.raises(DataError, match=r"mask '.*cut\.png' is truncated or corrupt"):
            read_mask(path)


@pytest.mark.parametrize(
    ("mode", "found"),
    [("RGB", "8-bit RGB"), ("RGBA", "8-bit RGBA"), ("LA", "8-bit gray \\+ alpha"), ("I;16", "16-bit grayscale")],
)
def test_a_mask_of_colours_alpha_or_16_bits_is_an_error_that_says_what_was_found(
    tmp_path: Path, mode: str, found: str
) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "m.png")
    expected = rf"mask '.*m\.png' is a {found} PNG; expected an 8-bit palette or grayscale PNG"
    with pytest.raises(DataError, match=expected):
        read_mask(tmp_path / "m.png")


def test_a_jpeg_mask_is_an_error(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match="is not a PNG file; expected an 8-bit palette or grayscale PNG of labels"):
        read_mask(tmp_path / "m.jpg")


def test_an_rgb_mask_is_read_as_colours_only_where_that_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    colours = scene(0, 20, 30)[0]
    Image.fromarray(colours).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", colours=True), colours)
    with pytest.raises(DataError, match="convert colours to indices first"):
        read_mask(tmp_path / "m.png")
    Image.new("RGBA", (8, 8)).save(tmp_path / "alpha.png")
    with pytest.raises(DataError, match=r"alpha\.png' is a 8-bit RGBA PNG; .* or RGB PNG \(drop alpha and save"):
        read_mask(tmp_path / "alpha.png", colours=True)


def test_a_mask_of_another_size_is_an_error_with_both_sizes() -> None:
    image, mask = np.zeros((10, 20, 3), np.uint8), np.zeros((10, 19), np.uint8)
    with pytest.raises(
        DataError, match=r"mask 'm\.png' is 19x10 .* image 'i\.jpg' is 20x10; they must have the same size$"
    ):
        check_sizes(image, mask, image_path="i.jpg", mask_path="m.png")


def test_a_mask_that_lies_on_its_side_is_an_error_that_speaks_of_exif() -> None:
    image, mask = np.zeros((10, 20, 3), np.uint8), np.zeros((20, 10), np.uint8)
    with pytest.raises(DataError, match=r"10x20 .* is 20x10; .* EXIF rotation shows it, rotate the image's pixels"):
        check_sizes(image, mask, image_path="i.jpg", mask_path="m.png")


def test_an_illegal_label_is_an_error_with_file_value_and_what_is_allowed() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[0, :3], mask[1] = 37, 255
    with pytest.raises(DataError) as error:
        check_labels(mask, num_classes=21, ignored=(255,), name="voc2012", path="m.png")
    assert str(error.value) == (
        "mask 'm.png' holds label 37 in 3 pixels; allowed in 'voc2012' are 0..20 and 255 (ignored)"
    )


@pytest.mark.parametrize("value", range(256))
def test_exactly_the_classes_and_the_ignored_values_are_legal(value: int) -> None:
    mask = np.full((2, 2), value, np.uint8)
    if value in {*range(11), 100, 255}:
        check_labels(mask, num_classes=11, ignored=(100, 255), name="camvid", path="m")
    else:
        with pytest.raises(DataError, match=f"holds label {value} in 4 pixels"):
            check_labels(mask, num_classes=11, ignored=(100, 255), name="camvid", path="m")
