"""Boxes from COCO, Pascal VOC and YOLO: the same objects from each, and one clear error for each fault."""

import functools
import json
import operator
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


def edited(file, edit):
    """Apply a function to each document of COCO that `file` names, or to one."""
    for path in [file] if file.is_file() else sorted(file.glob("annotations/*.json")):
        document = json.loads(path.read_text())
        edit(document)
        path.write_text(json.dumps(document))


def annotated(**values):
    """Return a function that changes the first annotation of train."""
    return lambda root: edited(root / COCO_TRAIN, lambda document: document["annotations"][0].update(values))


def written(file, text):
    return lambda root: (root / file).write_text(text)


COCO_TRAIN = "annotations/instances_train2017.json"
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
        "instances_val2017.json is no COCO file.*image_id: Field required"),
    "a file cut off": (
        coco, lambda root: (root / COCO_TRAIN).write_text((root / COCO_TRAIN).read_text()[:200]),
        "instances_train2017.json is not valid JSON"),
    "a file without its last letter": (
        coco, lambda root: (root / COCO_TRAIN).write_text((root / COCO_TRAIN).read_text()[:-1]),
        "instances_train2017.json is no COCO file.*Invalid JSON"),
    "no object of JSON": (coco, written(COCO_TRAIN, '["images", "annotations", "categories"]'), "should be an object"),
    "no images": (
        coco, lambda root: edited(root / COCO_VAL, lambda document: document.update(images=[], annotations=[])),
        "instances_val2017.json lists no images"),
    "another name of an id": (
        coco, lambda root: replaced(root, COCO_VAL, '"cat"', '"cow"'), "id 10 is 'cat' in .*'cow' in .*val2017.json"),
    "another id of a name": (
        coco, lambda root: replaced(root, COCO_VAL, '{"id": 10,', '{"id": 12,'), "'cat' has the id 10 in .*and 12 in"),
    "an id twice": (
        coco, lambda root: edited(root, lambda document: document["categories"].append({"id": 10, "name": "cat"})),
        "id 10 stands twice in annotations"),
    "a name twice": (
        coco, lambda root: edited(root, lambda document: document["categories"].append({"id": 9, "name": "cat"})),
        "'cat' has the id 10 in .* and 9 in"),
    "an image id twice": (
        coco, lambda root: edited(root / COCO_TRAIN, lambda document: document["images"][1].update(id=0)),
        "train2017.json gives several images the same id.*: 0"),
    "another size in COCO": (
        coco, lambda root: edited(root / COCO_VAL, lambda document: document["images"][0].update(width=128)),
        "another size.*val2017.json: 128 x 48, but val2017/c.png has 64 x 48"),
    "another size in VOC": (
        voc, lambda root: replaced(root, "Annotations/c.xml", "<annotation>",
                                   "<annotation><size><width>99</width><height>48</height></size>"),
        "another size.*c.xml: 99 x 48, but JPEGImages/c.png has 64 x 48"),
    "a crowd that is no flag": (coco, annotated(iscrowd="some"), "annotations.0.iscrowd.*boolean.*got some"),
    "difficult that is no flag": (
        voc, lambda root: replaced(root, "Annotations/c.xml", "<difficult>0", "<difficult>very"),
        "c.xml: difficult is 'very', not 0 or 1"),
    "an area of NaN": (coco, annotated(area=float("nan")), "annotations.0.area: Input should be a finite number"),
    "an infinite area": (coco, annotated(area=float("inf")), "annotations.0.area: Input should be a finite number"),
    "a negative area": (coco, annotated(area=-4), "annotations.0.area: Input should be greater than or equal to 0"),
    "an area of text": (coco, annotated(area="big"), "annotations.0.area: .*valid number.*got big"),
    "an area larger than the image": (coco, annotated(area=9999), "areas larger than.*area 9999 in train2017/a.png"),
    "a box of NaN": (coco, annotated(bbox=[0, float("nan"), 4, 4]), "annotations.0.bbox.1: .*finite number, got nan"),
    "a box of null": (coco, annotated(bbox=[0, None, 4, 4]), "annotations.0.bbox.1: .*valid number, got None"),
    "a box of text": (coco, annotated(bbox=["a", 0, 4, 4]), "annotations.0.bbox.0: .*valid number.*got a"),
    "a box of three": (coco, annotated(bbox=[0, 0, 4]), "annotations.0.bbox.3: Field required"),
    "a list as image id": (coco, annotated(image_id=[1]), "annotations.0.image_id: an id is a whole number or text"),
    "a list as category": (coco, annotated(category_id=[1]), "annotations.0.category_id: .*valid integer"),
    "a flag as category": (coco, annotated(category_id=True), "annotations.0.category_id: true and false are no"),
    "a category without number": (
        coco, lambda root: replaced(root, COCO_VAL, '{"id": 10,', '{"id": "x",'), "categories.0.id: .*valid integer"),
    "a box that is outside but for the tolerance": (
        coco, annotated(bbox=[WIDTH, 4, 1, 20]), "no area in their image.*64, 4, 65, 24 in 64 x 48"),
    "COCO without train": (coco, lambda root: (root / COCO_TRAIN).unlink(), "of val and test, but none of train"),
    "a COCO file of no split": (
        coco, lambda root: (
            (root / COCO_VAL).rename(root / "more.json"), (root / "val2017").rename(root / "pictures")),
        "in no split.*pictures/c.png of more.json"),
    "YOLO images of no split": (yolo, lambda root: picture(root / "images/e.png"), "in no split.*images/e.png"),
    "YOLO without train": (
        yolo, lambda root: [shutil.rmtree(root / folder / "train") for folder in ("images", "labels")],
        "of val and test, but none of train"),
    "VOC lists without train": (
        voc, lambda root: (root / "ImageSets/Main/train.txt").unlink(), "lists for test and val, but none for train"),
    "an empty VOC list": (voc, written("ImageSets/Main/val.txt", "\n"), "val.txt names no image"),
    "VOC lists that overlap": (
        voc, written("ImageSets/Main/val.txt", "a\nc\n"), "listed twice.*a in ImageSets/Main/train.txt and .*/val.txt"),
    "two VOC images of one name": (
        voc, lambda root: picture(root / "JPEGImages/a.jpg"), "of one name.*Images/a.jpg and .*/a.png"),
    "two YOLO images of one name": (
        yolo, lambda root: picture(root / "images/val/c.jpg"), "of one name.*val/c.jpg and .*/c.png"),
    "an infinite side": (
        voc, lambda root: replaced(root, "Annotations/c.xml", "<xmax>16", "<xmax>inf"), "xmax is 'inf', not a finite"),
    "YOLO names with a gap": (yolo, written("data.yaml", "names: {1: cat, 2: dog}"), "data.yaml: names.* keys 1, 2"),
    "YOLO names with a word as key": (yolo, written("data.yaml", "names: {0: cat, b: dog}"), "keys 0, b"),
    "YOLO names with one number twice": (yolo, written("data.yaml", "names: {0: cat, '0': dog}"), "keys 0, 0"),
    "YOLO names as text": (yolo, written("data.yaml", "names: cat"), "data.yaml: names is 'cat'; write a list"),
    "YOLO names of null": (yolo, written("data.yaml", "names: [cat, null]"), "data.yaml: class names.*None"),
    "YOLO names twice": (yolo, written("data.yaml", "names: [cat, cat]"), "data.yaml: class names.*'cat' twice"),
    "another number of YOLO names": (yolo, written("data.yaml", "nc: 5\nnames: [cat, dog]"), "nc is 5, but.* 2 names"),
    "nc that is no number": (yolo, written("data.yaml", "nc: many\nnames: [cat, dog]"), "nc is 'many'"),
    "broken YAML": (yolo, written("data.yaml", "names: [cat"), "data.yaml is not YAML"),
    "two lists of YOLO names": (
        yolo, written("labels/classes.txt", "dog\ncat\n"), "data.yaml has cat, dog; labels/classes.txt has dog, cat"),
    "a class between two": (yolo, lambda root: replaced(root, "labels/val/c.txt", "1 ", "0.5 "), "class 0.5 is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file(name, tmp_path):
    make, spoil, message = FAULTS[name]
    root = make(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=message):
        read_boxes(root)


def places(node, at=()):
    """Yield the path of each value in a document."""
    yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*at, key))


def test_a_wrong_value_anywhere_is_a_data_error_or_harmless(tmp_path):
    root = coco(tmp_path)
    document = json.loads((root / COCO_TRAIN).read_text())
    refused = 0
    for *outer, last in filter(None, places(document)):
        for value in (None, [], {}, "x", True, 10**40, float("nan")):
            spoilt = json.loads(json.dumps(document))
            functools.reduce(operator.getitem, outer, spoilt)[last] = value
            (root / COCO_TRAIN).write_text(json.dumps(spoilt))
            try:
                data = read_boxes(root)
            except DataError:
                refused += 1
            else:
                for number in range(len(data.names)):
                    truth = data.truth(number)
                    assert np.isfinite(truth["boxes"]).all()
                    assert (truth["areas"] > 0).all()
    assert refused > 150


def test_flags_and_numbers_as_text_are_read(tmp_path):
    annotated(iscrowd="0", bbox=["8", "4", "16", "24"])(coco(tmp_path / "coco"))
    truth = read_boxes(tmp_path / "coco").truth(1)
    assert truth["ignored"].tolist() == [False, False]
    assert truth["boxes"][0].tolist() == [8, 4, 24, 28]
    replaced(voc(tmp_path / "voc"), "Annotations/c.xml", "<difficult>0", "<difficult>True")
    data = read_boxes(tmp_path / "voc")
    assert data.truth(data.names.index("JPEGImages/c.png"))["ignored"].tolist() == [True]


@pytest.mark.parametrize("area", [0, None])
def test_an_area_that_is_not_known_is_that_of_the_box(area, tmp_path):
    annotated(area=area)(coco(tmp_path))
    data = read_boxes(tmp_path)
    assert data.truth(data.names.index("train2017/a.png"))["areas"].tolist() == [16 * 24, 32 * 32]
    assert data.read.get("areas") == (None if area is None else "1 of 0, for which the area of the box is taken")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_of_a_turned_image_lie_where_its_object_is_shown(orientation, tmp_path):
    root = coco(tmp_path)
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[4:28, 8:24] = 255  # the box of the annotation
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(root / "train2017/a.png", exif=exif)
    edited(root / COCO_TRAIN, lambda document: document["annotations"].pop())
    place = (data := read_boxes(root)).names.index("train2017/a.png")
    if orientation >= 5:  # width and height say that the boxes are those of the stored image
        assert "turned" not in data.read
    else:
        assert data.read["turned"].startswith("1 images by EXIF")
        edited(root / COCO_TRAIN, lambda document: document["annotations"][0].update(bbox=shown_box(data.image(place))))
        data = read_boxes(root)
    x1, y1, x2, y2 = data.truth(place)["boxes"][0].astype(int)
    shown = np.asarray(data.image(place))[..., 0]
    assert (shown[y1:y2, x1:x2] == 255).all()
    assert (shown == 255).sum() == (x2 - x1) * (y2 - y1) == 24 * 16


def shown_box(image):
    rows, columns = np.nonzero(np.asarray(image)[..., 0])
    return [int(side) for side in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def test_boxes_of_the_image_as_it_is_shown_stay(tmp_path):
    root = coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(root / "train2017/a.png", exif=exif)
    data = read_boxes(root)
    assert data.truth(data.names.index("train2017/a.png"))["boxes"][0].tolist() == [8, 4, 24, 28]


def test_what_is_left_out_is_said(tmp_path):
    root = coco(tmp_path / "coco")
    picture(root / "train2017/e.png")
    (root / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')
    assert read_boxes(root).read["left out"] == (
        "images that no file lists: 1 (train2017/e.png), other JSON files: 1 (annotations/captions_train2017.json)"
    )
    root = voc(tmp_path / "voc")
    picture(root / "JPEGImages/e.png")
    assert read_boxes(root).read["left out"] == "images that no list names: 1 (JPEGImages/e.png)"
    shutil.rmtree(root / "ImageSets")
    assert read_boxes(root).read["left out"] == "images without an annotation file: 1 (JPEGImages/e.png)"


def test_voc_lists_of_trainval_and_names_with_a_space(tmp_path):
    root = voc(tmp_path)
    for folder, ending in (("JPEGImages", "png"), ("Annotations", "xml")):
        (root / folder / f"a.{ending}").rename(root / folder / f"a 1.{ending}")
    (root / "ImageSets/Main/train.txt").unlink()
    (root / "ImageSets/Main/trainval.txt").write_text("a 1\nb\nc\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1  1\n")
    data = read_boxes(root)
    names = {split: [data.names[row] for row in rows] for split, rows in data.given.items()}
    assert names == {
        "train": ["JPEGImages/a 1.png", "JPEGImages/b.png"],
        "val": ["JPEGImages/c.png"],
        "test": ["JPEGImages/d.png"],
    }


@pytest.mark.parametrize(
    ("file", "text", "classes"),
    [
        ("data.yaml", "names: {1: dog, 0: cat}", ("cat", "dog")),
        ("data.yaml", "names: {'1': dog, 0: cat}", ("cat", "dog")),
        ("data.yaml", "names:\n" + "".join(f"  '{i}': c{i}\n" for i in range(12)), tuple(f"c{i}" for i in range(12))),
        ("data.yaml", "nc: 3", ("0", "1", "2")),
        ("data.yaml", "path: here", ("0", "1")),
        ("labels/train/classes.txt", "cat\ndog\n", ("cat", "dog")),
    ],
)
def test_yolo_names(file, text, classes, tmp_path):
    root = yolo(tmp_path)
    (root / "data.yaml").unlink()
    (root / file).write_text(text)
    replaced(root, "labels/val/c.txt", "1 ", "1.0 ")
    data = read_boxes(root)
    assert data.classes == classes
    assert data.truth(data.names.index("images/val/c.png"))["labels"].tolist() == [1]


def test_the_embedded_scenes():
    data = scene_boxes()
    assert {split: len(rows) for split, rows in data.given.items()} == {"train": 400, "val": 200, "test": 200}
    assert set(data.truth(0)) == {"boxes", "labels", "crowd", "ignored", "areas"}
    assert data.image(0).size == (96, 96)
