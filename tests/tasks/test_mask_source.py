"""Images and masks: the layouts that are read, and one clear error for each fault."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.mask_source import read_masks, scene_masks


def picture(file, values, mode=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8), mode)
    image.save(file)


def pair(root, images, masks, name, values):
    picture(root / images / f"{name}.jpg", np.zeros((*np.shape(values), 3)))
    picture(root / masks / f"{name}.png", values)


MASK = np.array([[0, 1, 255], [2, 2, 0]])


def by_split(root):
    for split in ("train", "valid", "test"):
        pair(root, f"{split}/images", f"{split}/masks", split, MASK)
    return root


def by_image(root):
    for split in ("train", "val", "test"):
        pair(root, f"images/{split}", f"masks/{split}", split, MASK)
    return root


def voc(root):
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split in ("train", "val", "test"):
        pair(root, "JPEGImages", "SegmentationClass", split, MASK)
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text(f"{split}\n")
    return root


@pytest.mark.parametrize("make", [by_split, by_image, voc])
def test_each_layout(make, tmp_path):
    data = read_masks(make(tmp_path / "data"))
    assert {split: len(rows) for split, rows in data.given.items()} == {"train": 1, "val": 1, "test": 1}
    for split, (row,) in data.given.items():
        assert split[:3] in data.names[row]
        assert data.truth(row).tolist() == MASK.tolist()
        assert data.image(row).size == (3, 2)
    assert data.classes == ("class 0", "class 1", "class 2")


def test_without_splits(tmp_path):
    for name in "abcdef":
        pair(tmp_path, "images", "masks", name, MASK)
    assert read_masks(tmp_path).given == {}


def test_names_and_another_void(tmp_path):
    (by_split(tmp_path / "data") / "classes.txt").write_text("sky\ntree\n")
    with pytest.raises(DataError, match=r"masks/train.png has 2.*2 classes, 0 to 1.*ignore=K"):
        read_masks(tmp_path / "data")
    (tmp_path / "data/classes.txt").write_text("sky\ntree\nroad\n")
    with pytest.raises(DataError, match="has 255"):
        read_masks(tmp_path / "data", void=2)


def test_a_palette_holds_class_numbers(tmp_path):
    by_split(tmp_path)
    image = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    image.putpalette([value for number in range(256) for value in (number, 0, 0)])
    image.putdata(MASK.flatten().tolist())
    image.save(tmp_path / "train/masks/train.png")
    assert read_masks(tmp_path).truth(1).tolist() == MASK.tolist()


FAULTS = {
    "another size": (lambda root: picture(root / "train/masks/train.png", np.zeros((3, 3))),
                     "another size.*train.png is 3 x 3, its image 3 x 2"),
    "colours": (lambda root: picture(root / "train/masks/train.png", np.zeros((2, 3, 3))),
                "train.png has the mode RGB"),
    "no mask": (lambda root: (root / "train/masks/train.png").rename(root / "train/masks/other.png"),
                "images without a mask.*train.jpg"),
    "all void": (lambda root: [picture(file, np.full((2, 3), 255)) for file in root.rglob("*.png")],
                 "all pixels of all masks are void"),
    "no image": (lambda root: (root / "train/masks/train.png").write_bytes(b""), "train.png cannot be read"),
    "no train": (lambda root: (root / "train").rename(root / "other"), "folders for test and val, but none for train"),
    "nothing": (lambda root: [(root / split).rename(root / f"my_{split}") for split in ("train", "valid", "test")],
                "images and masks that belong together.*are they in my_test or my_train or my_valid"),
    "two for a split": (lambda root: pair(root, "val/images", "val/masks", "v", MASK),
                        "both val and valid are for val"),
    "a split without masks": (lambda root: (root / "test/masks").rename(root / "m"),
                              "test has no images with masks; put images into test/images and masks into test/masks"),
    "an empty split": (lambda root: [file.unlink() for file in (root / "test").rglob("*.*")],
                       "test has no images with masks"),
    "two folders of masks": (lambda root: picture(root / "train/labels/train.png", MASK),
                             "train has masks in train/masks and train/labels"),
    "16 bits": (lambda root: Image.fromarray(np.full((2, 3), 600, np.uint16)).save(root / "train/masks/train.png"),
                "out of range.*train/masks/train.png has 600; class numbers are bytes, 0 to 254"),
    "JPEG": (lambda root: Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / "train/masks/train.png", "JPEG"),
             "train.png is a JPEG.*lossless"),
    "one class": (lambda root: [picture(file, np.full((2, 3), 2)) for file in root.rglob("*.png")],
                  "class 2 is the only class.*ignore=K"),
    "0 and 255": (lambda root: [picture(file, [[0, 255, 0]] * 2) for file in root.rglob("*.png")],
                  "class 0 is the only class.*ignore=K.*254; then 255 is read as class 1"),
    "two images of a name": (lambda root: picture(root / "train/images/train.png", MASK),
                             "train/images/train.jpg and train/images/train.png"),
    "two masks of a name": (lambda root: picture(root / "train/masks/train.bmp", MASK),
                            "train/masks/train.bmp and train/masks/train.png"),
    "a broken image": (lambda root: (root / "train/images/train.jpg").write_bytes(b"GIF"),
                       "train/images/train.jpg cannot be read as an image: not an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file(name, tmp_path):
    spoil, message = FAULTS[name]
    spoil(by_split(tmp_path))
    with pytest.raises(DataError, match=message):
        read_masks(tmp_path)


LISTS = "ImageSets/Segmentation"
FAULTS_OF_VOC = {
    "an image in two lists": (lambda root: (root / LISTS / "val.txt").write_text("train\nval\n"),
                              "listed twice.*train in .*/train.txt and .*/val.txt"),
    "no list for train": (lambda root: (root / LISTS / "train.txt").unlink(),
                          "lists for test and val, but none for train"),
    "a listed image without a mask": (lambda root: (root / "SegmentationClass/val.png").unlink(),
                                      "without a mask.*val.jpg"),
    "an image that is not there": (lambda root: (root / LISTS / "val.txt").write_text("a b\n"), "not there.*: a b;"),
    "beside the folders of splits": (lambda root: pair(root, "JPEGImages/train", "SegmentationClass/train", "x", MASK),
                                     "outside of the folders of the splits .6.: JPEGImages/test.jpg"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS_OF_VOC)
def test_a_fault_of_voc_is_named(name, tmp_path):
    spoil, message = FAULTS_OF_VOC[name]
    spoil(voc(tmp_path))
    with pytest.raises(DataError, match=message):
        read_masks(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_voc_as_it_is_published(packed, tmp_path):
    """Most photographs have no mask and are in no list, and two folders are around everything."""
    root = voc(tmp_path / "VOCdevkit/VOC2012")
    (root / LISTS / "trainval.txt").write_text("train\nval\n")
    pair(root, "JPEGImages", "SegmentationObject", "val", MASK)
    pair(root, "JPEGImages", "SegmentationClass", "unlisted", MASK)
    picture(root / "JPEGImages/other.jpg", np.zeros((2, 3, 3)))
    path = tmp_path
    if packed:
        path = tmp_path / "voc.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "VOCdevkit", "VOCdevkit")
    data = read_masks(path)
    assert data.names == ["JPEGImages/test.jpg", "JPEGImages/train.jpg", "JPEGImages/val.jpg"]
    assert {split: rows.tolist() for split, rows in data.given.items()} == {"test": [0], "train": [1], "val": [2]}
    assert data.read["left out"] == (
        f"4 images that no list of {LISTS} names: 2 in JPEGImages, 1 in SegmentationClass, 1 in SegmentationObject"
    )
    assert data.truth(1).tolist() == MASK.tolist()


def test_255_can_be_a_class_of_binary_masks(tmp_path):
    for file in by_split(tmp_path).rglob("*.png"):
        picture(file, [[0, 255, 255], [0, 0, 0]])
    data = read_masks(tmp_path, void=254)
    assert data.truth(0).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert len(data.classes) == 2
    picture(tmp_path / "train/masks/train.png", [[0, 1, 255], [0, 0, 0]])
    with pytest.raises(DataError, match=r"train\.png has 255"):
        read_masks(tmp_path, void=254)


def test_class_numbers_that_do_not_occur_are_named(tmp_path):
    for file in by_split(tmp_path).rglob("*.png"):
        picture(file, [[0, 2, 255], [7, 0, 3]])
    assert read_masks(tmp_path).read["in no mask"] == "class numbers 1, 4 to 6"


def test_a_compressed_archive_is_called_one(tmp_path):
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(DataError, match=r"a\.tar\.gz is neither a folder nor an uncompressed tar .* unpack it"):
        read_masks(tmp_path / "a.tar.gz")


def test_the_embedded_scenes():
    data = scene_masks()
    assert len(data.classes) == 11
    assert data.truth(0).shape == (96, 96)
