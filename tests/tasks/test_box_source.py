"""Boxes from COCO, Pascal VOC and YOLO: the same objects from each, and one clear error for each fault."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks.box_source import read_boxes, scene_boxes

WIDTH, HEIGHT = 64, 48
BOXES = {"a": [("cat", 8, 4, 24, 28), ("dog", 32, 16, 64, 48)], "b": [], "c": [("dog", 0, 0, 16, 12)], "d": []}
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test"}
CLASSES = ["cat", "dog"]


def picture(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(file)


def coco(root):
    for split in ("train", "val", "test"):
        images, notes = [], []
        for number, (name, found) in enumerate(BOXES.items()):
            if SPLITS[name] != split:
                continue
            picture(root / f"{split}2017" / f"{name}.png")
            images.append({"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
            for kind, x1, y1, x2, y2 in found:
                note = {"id": len(notes), "image_id": number, "category_id": 10 + CLASSES.index(kind)}
                notes.append({**note, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
        categories = [{"id": 10 + number, "name": name} for number, name in enumerate(CLASSES)]
        file = root / "annotations" / f"instances_{split}2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return root


def voc(root):
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, found in BOXES.items():
        picture(root / "JPEGImages" / f"{name}.png")
        objects = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, x1, y1, x2, y2 in found
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
        with (root / "ImageSets/Main" / f"{SPLITS[name]}.txt").open("a") as file:
            file.write(f"{name}\n")
    return root


def yolo(root):
    for name, found in BOXES.items():
        picture(root / "images" / SPLITS[name] / f"{name}.png")
        lines = [
            f"{CLASSES.index(kind)} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} "
            f"{(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}"
            for kind, x1, y1, x2, y2 in found
        ]
        file = root / "labels" / SPLITS[name] / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        if lines:
            file.write_text("\n".join(lines))
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return root


FORMATS = {"COCO": coco, "Pascal VOC": voc, "YOLO": yolo}


def tarred(root):
    with tarfile.open(root.with_suffix(".tar"), "w") as tar:
        tar.add(root, root.name)
    return root.with_suffix(".tar")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_objects(name, packed, tmp_path):
    root = FORMATS[name](tmp_path / "data")
    data = read_boxes(tarred(root) if packed else root)
    assert data.read["format"] == name
    assert data.classes == ("cat", "dog")
    by_name = {file.rpartition("/")[2][0]: number for number, file in enumerate(data.names)}
    assert {split: rows.tolist() for split, rows in data.given.items()} == {
        split: [by_name[each] for each in BOXES if SPLITS[each] == split] for split in ("train", "val", "test")
    }
    for each, found in BOXES.items():
        truth = data.truth(by_name[each])
        np.testing.assert_allclose(truth["boxes"], np.array([box[1:] for box in found]).reshape(-1, 4), atol=1e-4)
        assert [data.classes[label] for label in truth["labels"]] == [box[0] for box in found]
        assert not truth["ignored"].any()
        assert data.image(by_name[each]).size == (WIDTH, HEIGHT)
    assert "2 of them without objects" in data.read["images"]


def test_crowds_and_difficult_objects_do_not_count(tmp_path):
    file = coco(tmp_path / "coco") / "annotations/instances_train2017.json"
    document = json.loads(file.read_text())
    document["annotations"][0] |= {"iscrowd": 1, "area": 7}
    file.write_text(json.dumps(document))
    truth = read_boxes(tmp_path / "coco").truth(1)
    assert truth["crowd"].tolist() == truth["ignored"].tolist() == [True, False]
    assert truth["areas"].tolist() == [7, 32 * 32]

    file = voc(tmp_path / "voc") / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    truth = read_boxes(tmp_path / "voc").truth(0)
    assert truth["ignored"].tolist() == [True, False]
    assert not truth["crowd"].any()


def replaced(root, file, old, new):
    path = root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


COCO_VAL = "annotations/instances_val2017.json"
FAULTS = {
    "no annotations": (coco, lambda root: shutil.rmtree(root / "annotations"), "has no annotations"),
    "mixed formats": (coco, lambda root: voc(root), "several formats.*COCO.*Pascal VOC"),
    "a box outside": (voc, lambda root: replaced(root, "Annotations/c.xml", "<xmax>16", "<xmax>99"), "outside.*c.xml"),
    "a box of no area": (
        voc, lambda root: replaced(root, "Annotations/c.xml", "<xmax>16", "<xmax>0"), "no area.*c.xml"),
    "a missing annotation": (voc, lambda root: (root / "Annotations/b.xml").unlink(), "without an annotation file.*b"),
    "a missing image": (voc, lambda root: (root / "JPEGImages/b.png").unlink(), "without an image.*b.xml"),
    "no number": (voc, lambda root: replaced(root, "Annotations/c.xml", "<xmax>16", "<xmax>x"), "c.xml: xmax is 'x'"),
    "broken XML": (voc, lambda root: replaced(root, "Annotations/c.xml", "</object>", ""), "c.xml is not XML"),
    "a class out of range": (
        yolo, lambda root: replaced(root, "labels/val/c.txt", "1 ", "7 "), "out of range.*c.txt: class 7.*0 to 1"),
    "no share": (yolo, lambda root: replaced(root, "labels/val/c.txt", "0.125", "8"), "c.txt, line 1.*from 0 to 1"),
    "a polygon": (
        yolo, lambda root: (root / "labels/val/c.txt").write_text("0 .1 .1 .2 .1 .2 .2"), "line 1: 7 values"),
    "labels without image": (yolo, lambda root: (root / "images/val/c.png").unlink(), "labels without an image.*c.txt"),
    "an unknown image": (
        coco, lambda root: (root / "val2017/c.png").unlink(), "not there.*c.png of annotations"),
    "an unknown category": (
        coco, lambda root: replaced(root, COCO_VAL, '"category_id": 11', '"category_id": 5'),
        "unknown image or category.*annotation 0"),
    "no COCO file": (
        coco, lambda root: replaced(root, COCO_VAL, '"image_id"', '"image"'),
        "instances_val2017.json is no COCO file: KeyError: 'image_id'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file(name, tmp_path):
    make, spoil, message = FAULTS[name]
    root = make(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=message):
        read_boxes(root)


def test_the_embedded_scenes():
    data = scene_boxes()
    assert {split: len(rows) for split, rows in data.given.items()} == {"train": 400, "val": 200, "test": 200}
    assert set(data.truth(0)) == {"boxes", "labels", "crowd", "ignored", "areas"}
    assert data.image(0).size == (96, 96)
