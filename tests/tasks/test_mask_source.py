"""Images and masks: the layouts that are read, and one clear error for each fault."""

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
    "nothing": (lambda root: (root / "train").rename(root / "other"), "images and masks that belong together"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file(name, tmp_path):
    spoil, message = FAULTS[name]
    spoil(by_split(tmp_path))
    with pytest.raises(DataError, match=message):
        read_masks(tmp_path)


def test_the_embedded_scenes():
    data = scene_masks()
    assert len(data.classes) == 11
    assert data.truth(0).shape == (96, 96)
