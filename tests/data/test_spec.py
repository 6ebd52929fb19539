"""The label spaces."""

import subprocess
import sys

import pytest

from atrous.data.spec import CAMVID_SPEC, VOC_SPEC, DatasetSpec, voc_colour
from atrous.errors import DataError


def test_voc_palette_is_the_official_one() -> None:
    # VOCdevkit's colours as its documentation prints them.
    official = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {label: voc_colour(label) for label in official} == official
    assert VOC_SPEC.palette[15] == (192, 128, 128)
    assert VOC_SPEC.classes[15] == "person"
    assert VOC_SPEC.num_classes == 21


def test_camvid_has_eleven_classes_in_the_order_of_its_masks() -> None:
    assert CAMVID_SPEC.num_classes == 11
    assert CAMVID_SPEC.classes[0] == "sky"
    assert CAMVID_SPEC.classes[-1] == "bicyclist"
    assert len(set(CAMVID_SPEC.palette)) == 11


@pytest.mark.parametrize(
    ("classes", "palette", "ignore_label", "message"),
    [
        (("only",), ((0, 0, 0),), 255, "1 classes; expected 2 to 254"),
        (("a", "a"), ((0, 0, 0),) * 2, 255, "['a'] appear more than once"),
        (("a", "b"), ((0, 0, 0),), 255, "1 colours for 2 classes"),
        (("a", "b"), ((0, 0, 0),) * 2, 1, "ignore_label=1 must lie between the number of classes (2) and 255"),
    ],
)
def test_impossible_label_spaces_are_refused(
    classes: tuple[str, ...], palette: tuple[tuple[int, int, int], ...], ignore_label: int, message: str
) -> None:
    with pytest.raises(DataError) as error:
        DatasetSpec(name="mine", classes=classes, palette=palette, ignore_label=ignore_label)
    assert message in str(error.value)


def test_importing_the_room_and_the_spec_imports_nothing_heavy() -> None:
    code = (
        "import sys, atrous.data, atrous.data.spec;"
        "heavy = {'torch', 'lightning', 'albumentations', 'cv2', 'numpy'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_building_the_training_samples_does_not_import_albumentations() -> None:
    code = "import sys, atrous.data.loading, atrous.data.voc; sys.exit('albumentations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
