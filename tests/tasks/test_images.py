"""Image tasks: sources, splits, sizes, batches, metrics worked out by hand, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasbench.errors import DataError, InputError, PluginError, UnknownNameError
from nasbench.tasks import SPLITS, create_task, images
from nasbench.tasks._image_augmentation import augment


def png(shade: int, size: tuple[int, int] = (10, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root: Path, classes: dict[str, int], size: tuple[int, int] = (10, 8)) -> Path:
    """Write flat images; the shade tells the class: 40, 80, ... in sorted order of the names."""
    for k, (name, count) in enumerate(sorted(classes.items())):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(png(40 * (k + 1), size))
    return root


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def class_tar(path: Path, classes: dict[str, int], prefix: str = "") -> Path:
    members = {
        f"{prefix}{name}/{i}.png": png(40 * (k + 1))
        for k, (name, n) in enumerate(sorted(classes.items()))
        for i in range(n)
    }
    return make_tar(path, members)


@pytest.fixture(scope="module")
def digits():
    return create_task("digits", size=16)


def everything(task, split, batch_size=100):
    batches = list(task.eval_batches(split, batch_size))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


class TestDigits:
    def test_counts_and_shapes(self, digits):
        assert digits.splits == {"train": 360, "val": 718, "test": 719}
        assert (digits.kind, digits.metric, digits.model_kwargs) == ("classification", "accuracy", {"num_classes": 10})
        assert digits.metrics == {"accuracy": "maximize", "loss": "minimize"}
        x, y = everything(digits, "test")
        assert x.shape == (719, 3, 16, 16)
        assert x.dtype == torch.float32
        assert y.shape == (719,)

    def test_default_size_is_64_and_bounded_by_the_backbone(self):
        assert create_task("digits").input_size == (3, 64, 64)
        assert create_task("digits", default_size=48).input_size == (3, 48, 48)
        assert create_task("digits", size=20, default_size=48).input_size == (3, 20, 20)

    def test_splits_are_disjoint_stratified_and_cover_everything(self, digits):
        numbers = torch.cat([digits.indices[s] for s in SPLITS])
        assert sorted(numbers.tolist()) == list(range(1797))
        share = torch.bincount(digits.labels) / 1797
        for split in SPLITS:
            counts = torch.bincount(digits.labels[digits.indices[split]])
            assert (counts - share * digits.splits[split]).abs().max() < 1.5

    def test_split_depends_on_the_seed_and_is_recorded(self, digits):
        again, other = create_task("digits", size=16), create_task("digits", size=16, seed=1)
        assert torch.equal(again.indices["val"], digits.indices["val"])
        assert not torch.equal(other.indices["val"], digits.indices["val"])
        assert (digits.describe()["split_seed"], other.describe()["split_seed"]) == (0, 1)
        assert any("seed 1" in note for note in other.notes)
        assert json.loads(json.dumps(digits.describe())) == digits.describe()
        assert again.describe() == digits.describe()

    def test_pixels_are_the_digits_enlarged_bilinearly(self):
        from sklearn.datasets import load_digits

        task = create_task("digits", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        x, _ = everything(task, "val")
        grey = torch.from_numpy(load_digits().images / 16).float()[task.indices["val"], None]
        expected = torch.nn.functional.interpolate(grey, size=64, mode="bilinear")
        # each of the two roundings to bytes is worth half a 255th, enlarging in two passes another half
        assert (x - expected).abs().max() <= 1.5 / 255 + 1e-6


class TestBatches:
    def test_training_batches_repeat_by_seed_and_epoch(self, digits):
        def labels(seed, epoch):
            return torch.cat([y for _, y in digits.train_batches(50, seed=seed, epoch=epoch)])

        assert torch.equal(labels(0, 1), labels(0, 1))
        assert not torch.equal(labels(0, 1), labels(0, 2))
        assert not torch.equal(labels(0, 1), labels(1, 1))
        assert sorted(labels(3, 4)) == sorted(digits.labels[digits.indices["train"]])

    def test_only_a_last_batch_of_one_is_left_out(self, digits):
        assert [len(x) for x, _ in digits.train_batches(100, seed=0, epoch=1)] == [100, 100, 100, 60]
        assert [len(x) for x, _ in digits.train_batches(359, seed=0, epoch=1)] == [359]
        assert [len(x) for x, _ in digits.eval_batches("test", 359)] == [359, 359, 1]

    def test_unknown_split_is_refused(self, digits):
        with pytest.raises(UnknownNameError, match="'val'"):
            next(digits.eval_batches("valid", 10))

    @pytest.mark.parametrize("augmentation", ["flip", "crop", "randaug"])
    def test_augmentation_repeats_and_changes_training_images_alone(self, digits, augmentation):
        def batch(augmentation, epoch=1):
            return next(digits.train_batches(64, seed=0, epoch=epoch, augmentation=augmentation))

        (x, y), (plain, same) = batch(augmentation), batch("none")
        assert torch.equal(y, same)
        assert torch.equal(x, batch(augmentation)[0])
        changed = (x != plain).flatten(1).any(1)
        assert 10 < changed.sum() < 65
        state = torch.get_rng_state()
        batch(augmentation)
        assert torch.equal(torch.get_rng_state(), state)  # the model's own random numbers stay where they were

    def test_flip_mirrors_or_keeps_each_image(self, digits):
        x, _ = next(digits.train_batches(64, seed=0, epoch=1, augmentation="flip"))
        plain, _ = next(digits.train_batches(64, seed=0, epoch=1))
        for image, original in zip(x, plain, strict=True):
            assert torch.equal(image, original) or torch.equal(image, original.flip(2))

    def test_crop_shifts_by_at_most_an_eighth(self):
        pixels = torch.zeros(200, 3, 16, 16, dtype=torch.uint8)
        pixels[:, :, 8, 8] = 255
        shifted = augment(pixels, "crop", range(200))
        assert shifted.shape == pixels.shape
        rows, columns = (shifted[:, 0] == 255).nonzero()[:, 1:].T
        assert set(rows.tolist()) == {6, 7, 8, 9, 10}
        assert set(columns.tolist()) == {5, 6, 7, 8, 9, 10}  # mirrored first: column 7 or 8, then two either way

    def test_unknown_augmentation_is_refused(self, digits):
        with pytest.raises(UnknownNameError, match="did you mean 'flip'"):
            next(digits.train_batches(8, seed=0, epoch=1, augmentation="flipp"))


class TestMetrics:
    def test_accuracy_and_loss_by_hand(self, digits):
        outputs = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        metrics, per_item = digits.evaluate(outputs, torch.tensor([0, 1, 1, 1]))
        assert per_item.tolist() == [1.0, 0.0, 1.0, 0.0]  # of equal logits the first counts
        assert metrics["accuracy"] == 0.5
        by_hand = [math.log1p(math.exp(-2)), math.log(2), math.log1p(math.exp(-1)), 3 + math.log1p(math.exp(-3))]
        assert metrics["loss"] == pytest.approx(sum(by_hand) / 4)

    def test_loss_takes_probabilities_too(self, digits):
        outputs = torch.tensor([[1.0, 0.0]])
        soft = digits.loss(None, outputs, torch.tensor([[0.25, 0.75]]))
        log = -torch.log_softmax(outputs, 1)[0]
        assert soft == pytest.approx(float(0.25 * log[0] + 0.75 * log[1]))


class TestFolder:
    def test_seeded_split_of_class_folders(self, tmp_path):
        make_folder(tmp_path, {"cat": 10, "dog": 20})
        task = create_task(f"folder:{tmp_path}")
        assert task.splits == {"train": 18, "val": 6, "test": 6}  # a fifth of 30 each
        assert task.classes == ("cat", "dog")
        assert task.input_size == (3, 64, 64)
        assert task.notes == (f"folder:{tmp_path}: val and test drawn from all images, stratified by class, seed 0",)
        x, y = everything(task, "train")
        assert torch.bincount(y).tolist() == [6, 12]
        shade = (x[:, 0, 32, 32] * images.IMAGENET_DEFAULT_STD[0] + images.IMAGENET_DEFAULT_MEAN[0]) * 255
        assert torch.allclose(shade, (y + 1) * 40.0, atol=1e-3)

    def test_given_splits_are_kept(self, tmp_path):
        make_folder(tmp_path / "train", {"cat": 4, "dog": 4})
        make_folder(tmp_path / "validation", {"cat": 3, "dog": 3})
        make_folder(tmp_path / "test", {"cat": 2, "dog": 2})
        task = create_task(f"folder:{tmp_path}")
        assert task.splits == {"train": 8, "val": 6, "test": 4}
        assert task.notes == ()
        assert task.describe()["split_seed"] is None

    @pytest.mark.parametrize(("given", "missing"), [("val", "test"), ("test", "val")])
    def test_a_missing_split_is_drawn_from_train(self, tmp_path, given, missing):
        make_folder(tmp_path / "train", {"cat": 10, "dog": 10})
        make_folder(tmp_path / given, {"cat": 3, "dog": 4})
        task = create_task(f"folder:{tmp_path}")
        assert task.splits == {"train": 16, given: 7, missing: 4}
        drawn = f"{missing} drawn from the training images, stratified by class, seed 0"
        assert task.notes == (f"folder:{tmp_path}: {drawn}",)

    def test_size_is_the_datas_own_between_64_and_the_default(self, tmp_path):
        make_folder(tmp_path, {"cat": 3, "dog": 3}, size=(120, 90))
        assert create_task(f"folder:{tmp_path}").size == 90
        assert create_task(f"folder:{tmp_path}", default_size=80).size == 80

    def test_contents_are_fingerprinted(self, tmp_path):
        make_folder(tmp_path, {"cat": 3, "dog": 3})
        before = create_task(f"folder:{tmp_path}").describe()["data_sha256"]
        assert create_task(f"folder:{tmp_path}").describe()["data_sha256"] == before
        (tmp_path / "cat" / "1.png").write_bytes(png(41))
        assert create_task(f"folder:{tmp_path}").describe()["data_sha256"] != before

    def test_large_sets_are_read_as_needed(self, tmp_path, monkeypatch):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        held = create_task(f"folder:{tmp_path}")
        monkeypatch.setattr(images, "MEMORY_LIMIT_BYTES", 1000)
        task = create_task(f"folder:{tmp_path}")
        assert task.describe()["sha256_covers"] == "names and classes"
        for split in SPLITS:
            assert torch.equal(everything(task, split)[0], everything(held, split)[0])

    def test_missing_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"no folder at .*nowhere.*a folder of images for each class"):
            create_task(f"folder:{tmp_path / 'nowhere'}")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="Found 0 images"):
            create_task(f"folder:{tmp_path}")

    def test_one_class(self, tmp_path):
        make_folder(tmp_path, {"cat": 5})
        with pytest.raises(DataError, match=r"one class, 'cat'; classification needs two or more.*--learn simclr"):
            create_task(f"folder:{tmp_path}")

    def test_images_outside_class_folders(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        (tmp_path / "stray.png").write_bytes(png(1))
        with pytest.raises(DataError, match=r"1 of 11 images are in no class .*'stray.png'.*--learn simclr"):
            create_task(f"folder:{tmp_path}")

    @pytest.mark.parametrize(
        ("folders", "stray", "told"),
        [
            ([], 10, "no labels, because all 10 images are in no class folder"),
            (["cat"], 0, "no labels, because all 10 images are in one class folder, cat"),
            (["cat"], 1, "no labels, because 1 of 11 images are in no class folder"),
        ],
    )
    def test_images_without_labels(self, tmp_path, folders, stray, told):
        """What cannot be classified can still be learnt by a pretext."""
        make_folder(tmp_path, dict.fromkeys(folders, 10))
        (tmp_path / "dog").mkdir()  # a class folder without images is none
        for i in range(stray):
            (tmp_path / f"{i}.png").write_bytes(png(i))
        task = create_task(f"folder:{tmp_path}", labels=False, size=8)
        assert told in task.read["folders"]
        assert task.classes == ()
        assert task.splits == {"train": 6 + (stray == 1), "val": 2, "test": 2}
        assert "at random, seed 0" in task.notes[0]
        other = create_task(f"folder:{tmp_path}", labels=False, size=8, seed=1)
        assert not torch.equal(task.indices["val"], other.indices["val"])
        assert set(torch.cat([y for split in SPLITS for _, y in task.eval_batches(split, 4)]).tolist()) == {0}

    def test_splits_without_classes(self, tmp_path):
        for split, count in {"train": 5, "valid": 3, "test": 2}.items():
            (tmp_path / split).mkdir()
            for i in range(count):
                (tmp_path / split / f"{i}.png").write_bytes(png(i))
        task = create_task(f"folder:{tmp_path}", labels=False, size=8)
        assert task.splits == {"train": 5, "val": 3, "test": 2}
        with pytest.raises(DataError, match="5 of 5 images are in no class folder"):
            create_task(f"folder:{tmp_path}")

    def test_labels_that_are_not_needed_are_kept(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        assert create_task(f"folder:{tmp_path}", labels=False, size=8).classes == ("cat", "dog")

    def test_too_few_images_without_labels(self, tmp_path):
        make_folder(tmp_path, {"cat": 2})
        with pytest.raises(DataError, match="there are 2 training images, and 3 or more are needed"):
            create_task(f"folder:{tmp_path}", labels=False)

    def test_unreadable_files_are_counted_and_named(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        (tmp_path / "cat" / "0.png").write_bytes(b"no image")
        (tmp_path / "dog" / "3.png").write_bytes(png(9)[:40])
        with pytest.raises(DataError, match=r"2 of 10 images cannot be read: cat/0.png .*dog/3.png .*remove them"):
            create_task(f"folder:{tmp_path}")

    def test_too_few_images_to_split(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 2})
        with pytest.raises(DataError, match=r"dog \(2\); each needs 3 or more"):
            create_task(f"folder:{tmp_path}")
        make_folder(tmp_path, {"dog": 3})
        assert create_task(f"folder:{tmp_path}").splits == {"train": 4, "val": 2, "test": 2}

    def test_classes_that_train_lacks(self, tmp_path):
        make_folder(tmp_path / "train", {"cat": 5, "dog": 5})
        make_folder(tmp_path / "test", {"cat": 5, "owl": 5})
        with pytest.raises(DataError, match="test has classes that train does not have: owl"):
            create_task(f"folder:{tmp_path}")

    @pytest.mark.parametrize("size", [0, -3])
    def test_size_must_be_positive(self, tmp_path, size):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        with pytest.raises(InputError, match=f"positive number of pixels, got {size}"):
            create_task(f"folder:{tmp_path}", size=size)


class TestTar:
    def test_one_tar_is_split(self, tmp_path):
        path = class_tar(tmp_path / "all.tar", {"cat": 10, "dog": 10}, prefix="data/")
        task = create_task(f"tar:{path}", size=8)
        assert task.splits == {"train": 12, "val": 4, "test": 4}
        assert task.classes == ("cat", "dog")

    def test_two_tars_are_training_and_test(self, tmp_path):
        train = class_tar(tmp_path / "a.tar", {"class2": 10, "class10": 10})
        test = class_tar(tmp_path / "b.tar", {"class2": 3, "class10": 4})
        task = create_task(f"tar:{train},{test}", size=8)
        assert task.splits == {"train": 16, "val": 4, "test": 7}
        assert task.classes == ("class2", "class10")  # as a person counts
        assert "val drawn from the training images" in task.notes[0]
        x, y = everything(task, "test")
        shade = (x[:, 0, 4, 4] * images.IMAGENET_DEFAULT_STD[0] + images.IMAGENET_DEFAULT_MEAN[0]) * 255
        assert sorted(y.tolist()) == [0] * 3 + [1] * 4
        assert torch.allclose(shade, torch.where(y == 0, 80.0, 40.0), atol=1e-3)  # class10 sorts first as text

    def test_tar_of_one_tar_a_class(self, tmp_path):
        inner = {}
        for k, name in enumerate(("cat", "dog")):
            make_tar(tmp_path / "inner", {f"{i}.png": png(40 * (k + 1)) for i in range(5)})
            inner[f"{name}.tar"] = (tmp_path / "inner").read_bytes()
        scale = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # gives the bytes back
        task = create_task(f"tar:{make_tar(tmp_path / 'outer.tar', inner)}", size=8, **scale)
        assert task.classes == ("cat", "dog")
        x, y = everything(task, "train")
        assert torch.allclose(x[:, 1, 4, 4], (y + 1) * 40.0)

    @pytest.mark.parametrize("prefix", ["", "./"])
    def test_no_class_folders(self, tmp_path, prefix):
        path = make_tar(tmp_path / "flat.tar", {f"{prefix}{i}.png": png(i) for i in range(4)})
        with pytest.raises(DataError, match="4 of 4 images are in no class folder"):
            create_task(f"tar:{path}")
        assert create_task(f"tar:{path}", labels=False, size=8).splits == {"train": 2, "val": 1, "test": 1}

    def test_no_images(self, tmp_path):
        path = make_tar(tmp_path / "text.tar", {"cat/readme.txt": b"hello"})
        with pytest.raises(DataError, match="contains no image"):
            create_task(f"tar:{path}")

    def test_missing_or_no_tar(self, tmp_path):
        with pytest.raises(DataError, match="no tar file at"):
            create_task(f"tar:{tmp_path / 'none.tar'}")
        (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
        with pytest.raises(DataError, match="cannot be read as an uncompressed tar"):
            create_task(f"tar:{tmp_path / 'bad.tar'}")
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b""))
        with pytest.raises(DataError, match=r"does not end in \.tar"):
            create_task(f"tar:{tmp_path / 'a.tar.gz'}")

    def test_three_tars(self, tmp_path):
        with pytest.raises(InputError, match="one file or two"):
            create_task("tar:a.tar,b.tar,c.tar")


def write_mnist(root: Path) -> None:
    """Write MNIST's own file format: big-endian magic number, sizes, bytes."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pixels = np.repeat(labels[:, None, None] * 20, 28, 1).repeat(28, 2)
        head = struct.pack(">iiii", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, count) + labels.tobytes())


class TestTorchvision:
    def test_on_disk(self, tmp_path, monkeypatch):
        write_mnist(tmp_path)
        monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
        task = create_task("torchvision:MNIST", size=28, mean=(0.0,) * 3, std=(1.0,) * 3)
        assert task.splits == {"train": 30, "val": 10, "test": 20}
        x, y = everything(task, "test")
        assert torch.equal(y, torch.arange(20) % 10)
        assert torch.allclose(x[:, 2, 5, 5] * 255, y * 20.0)

    def test_not_on_disk_and_not_downloaded(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NASBENCH_DATA", str(tmp_path))
        with pytest.raises(DataError, match=r"CIFAR10 is not in .*set NASBENCH_DATA.*download=True"):
            create_task("torchvision:CIFAR10")
        assert not list(tmp_path.iterdir())

    def test_unknown_name(self):
        with pytest.raises(UnknownNameError, match="did you mean 'CIFAR10'"):
            create_task("torchvision:CIFAR-10")


class TestTexts:
    def test_unknown_task(self):
        with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
            create_task("digit")

    @pytest.mark.parametrize("text", ["folder:", "csv:"])
    def test_no_path(self, text):
        with pytest.raises(InputError, match="has no path or name of data"):
            create_task(text)


USER_TASK = """
from nasbench.tasks import ImageTask
from nasbench.tasks._image_sources import digits

class Task(ImageTask):
    def __init__(self, *, seed=0):
        super().__init__("mine", digits(), size=12, seed=seed)

def broken():
    return 1 / 0

def number(lookback=5):
    return lookback
"""


class TestUserTask:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text(USER_TASK)
        return path

    def test_class_gets_the_options_it_names(self, file):
        task = create_task(f"{file}:Task", size=99, seed=3)
        assert task.name == f"{file}:Task"
        assert task.input_size == (3, 12, 12)
        assert task.describe()["split_seed"] == 3
        assert create_task(str(file)).splits == {"train": 1079, "val": 359, "test": 359}

    def test_faults_are_said(self, file):
        with pytest.raises(UnknownNameError, match="did you mean 'Task'"):
            create_task(f"{file}:Tasc")
        with pytest.raises(PluginError, match="cannot be made: ZeroDivisionError"):
            create_task(f"{file}:broken")
        with pytest.raises(InputError, match="made a int; it must be a nasbench"):
            create_task(f"{file}:number", lookback=7)
        with pytest.raises(PluginError, match="no file at"):
            create_task(f"{file.parent / 'other.py'}:Task")
