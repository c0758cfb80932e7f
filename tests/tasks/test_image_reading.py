"""What is read of image folders and image files: splits, what is left out, modes, orientation, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasbench.errors import DataError
from nasbench.tasks import create_task
from nasbench.tasks import images as image_tasks
from nasbench.tasks._image_decoding import decode
from nasbench.tasks._image_layout import readable_extensions, split_of
from tests.tasks.test_images import class_tar, make_folder, make_tar, png

RAW = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
"""A normalisation that gives the bytes back."""


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def first_pixels(item: bytes, size: int = 8) -> list[int]:
    return decode(item, size)[0][0, 0].tolist()


class TestSplitFolders:
    @pytest.mark.parametrize("train", ["train", "training", "Train", "TRAIN", "trainset", "Training_Set"])
    @pytest.mark.parametrize("val", ["val", "valid", "validation", "dev"])
    def test_usual_spellings(self, tmp_path, train, val):
        # Before, all but `train` with `val` or `validation` were read as class folders, with a split drawn at random.
        make_folder(tmp_path / train, {"cat": 4, "dog": 4})
        make_folder(tmp_path / val, {"cat": 3, "dog": 3})
        make_folder(tmp_path / "Testing", {"cat": 2, "dog": 2})
        task = create_task(f"folder:{tmp_path}", size=8)
        assert task.splits == {"train": 8, "val": 6, "test": 4}
        assert task.classes == ("cat", "dog")
        assert f"from {val}" in task.read["folders"] or val == "val"

    @pytest.mark.parametrize(
        "names",
        [
            "seg_train seg_test",
            "trn tst",
            "train2017 val2017",
            "training_data test_data",
            "1_train 2_val",
            "train_images validation_images",
            "train test_images",
            "TrainImages TestImages",
            "trainset val_set_2",
        ],
    )
    def test_words_and_numbers_beside_the_split(self, tmp_path, names):
        # Before, the test images of such folders were trained on.
        train, other = names.split()
        for name in (train, other):
            make_folder(tmp_path / name, {"cat": 5, "dog": 5})
        task = create_task(f"folder:{tmp_path}", size=8)
        assert task.splits["val" if "val" in other else "test"] == 10
        assert task.splits["train"] == 8

    @pytest.mark.parametrize("names", ["trainA testA", "train test_final", "holdout test", "train_val other"])
    def test_a_name_that_speaks_of_a_split_is_refused(self, tmp_path, names):
        for name in names.split():
            make_folder(tmp_path / name, {"cat": 5, "dog": 5})
        with pytest.raises(DataError, match=r"same classes and seem to be splits.*val: val, valid, .*, tst"):
            create_task(f"folder:{tmp_path}", size=8)

    def test_a_second_folder_of_a_split_and_a_class_are_no_errors(self, tmp_path):
        for name in ("train", "test", "test_old"):
            make_folder(tmp_path / "a" / name, {"cat": 5, "dog": 5})
        assert create_task(f"folder:{tmp_path / 'a'}", size=8).read["left out"] == "10 images in test_old"
        make_folder(tmp_path / "b" / "tests", {"blood": 5, "allergy": 5})
        make_folder(tmp_path / "b" / "doctors", {"surgeon": 5, "nurse": 5})
        assert len(create_task(f"folder:{tmp_path / 'b'}", size=8).classes) == 4

    @pytest.mark.parametrize("name", ["cat", "trainer", "vale", "set", "contest", "devil", "train_val", "träin"])
    def test_other_names_are_no_splits(self, name):
        assert split_of(name) is None

    def test_the_identity_of_a_folder_that_was_read_right_stays(self, tmp_path):
        # Computed as before other spellings were recognised, when these two folders were read right already.
        import hashlib

        def expected(names, labels, files):
            digest = hashlib.sha256(repr((names, labels, ("cat", "dog"))).encode())
            for file in files:
                digest.update((tmp_path / file).read_bytes())
            return digest.hexdigest()

        plain = ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
        make_folder(tmp_path / "a", {"cat": 3, "dog": 3})
        told = create_task(f"folder:{tmp_path / 'a'}", size=8).describe()
        assert told["data_sha256"] == expected(plain, [0, 0, 0, 1, 1, 1], [f"a/{name}" for name in plain])
        for split in ("train", "validation", "test"):
            make_folder(tmp_path / "b" / split, {"cat": 3, "dog": 3})
        names = [f"{split}/{name}" for split in ("train", "val", "test") for name in plain]
        files = [f"b/{name.replace('val/', 'validation/')}" for name in names]
        told = create_task(f"folder:{tmp_path / 'b'}", size=8).describe()
        assert told["data_sha256"] == expected(names, [0, 0, 0, 1, 1, 1] * 3, files)

    def test_two_folders_of_one_split_are_refused(self, tmp_path):
        for name in ("train", "valid", "validation"):
            make_folder(tmp_path / name, {"cat": 3, "dog": 3})
        with pytest.raises(DataError, match="valid and validation both mean the val split"):
            create_task(f"folder:{tmp_path}", size=8)

    def test_a_folder_around_the_splits_is_passed(self, tmp_path):
        for name in ("train", "val"):
            make_folder(tmp_path / "archive" / "pets" / name, {"cat": 5, "dog": 5})
        task = create_task(f"folder:{tmp_path}", size=8)
        assert task.splits == {"train": 8, "val": 10, "test": 2}
        assert "in archive/pets" in task.read["folders"]

    def test_a_class_named_train(self, tmp_path):
        make_folder(tmp_path, {"train": 5, "bus": 5, "car": 5})
        assert create_task(f"folder:{tmp_path}", size=8).classes == ("bus", "car", "train")

    def test_splits_inside_classes_are_refused(self, tmp_path):
        for name in ("cat", "dog"):
            make_folder(tmp_path / name, {"train": 4, "test": 4})
        with pytest.raises(DataError, match="named like splits, test, train"):
            create_task(f"folder:{tmp_path}", size=8)

    def test_splits_in_a_tar(self, tmp_path):
        members = {
            f"data/{s}/{c}/{i}.png": png(9) for s in ("train", "valid") for c in ("cat", "dog") for i in range(5)
        }
        task = create_task(f"tar:{make_tar(tmp_path / 'all.tar', members)}", size=8)
        assert task.splits == {"train": 8, "val": 10, "test": 2}


class TestLeftOut:
    def test_hidden_folders_and_files(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5, ".ipynb_checkpoints": 5, "__MACOSX": 5, ".git": 5})
        make_folder(tmp_path / "dog", {".ipynb_checkpoints": 2})
        (tmp_path / "cat" / "._0.png").write_bytes(b"what a Mac writes beside each file")
        task = create_task(f"folder:{tmp_path}", size=8)
        assert task.classes == ("cat", "dog")
        assert sum(task.splits.values()) == 10
        assert task.read["left out"] == "hidden: .git, .ipynb_checkpoints, __MACOSX and 2 more"

    def test_hidden_members_of_a_tar(self, tmp_path):
        members = {f"{name}/{i}.png": png(9) for name in ("cat", "dog") for i in range(5)}
        members |= {"__MACOSX/cat/._0.png": b"x", "cat/._0.png": b"x"}
        task = create_task(f"tar:{make_tar(tmp_path / 'a.tar', members)}", size=8)
        assert task.classes == ("cat", "dog")
        assert sum(task.splits.values()) == 10
        assert "__MACOSX/cat/._0.png" in task.read["left out"]

    def test_folders_beside_the_splits_are_told(self, tmp_path):
        for name in ("train", "test", "extra"):
            make_folder(tmp_path / name, {"cat": 5, "dog": 5})
        assert create_task(f"folder:{tmp_path}", size=8).read["left out"] == "10 images in extra"

    def test_a_link_to_a_folder_above_ends(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        (tmp_path / "cat" / "loop").symlink_to(tmp_path)
        assert sum(create_task(f"folder:{tmp_path}", size=8).splits.values()) == 10

    def test_empty_folders_and_links_to_a_folder_above_are_told(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        (tmp_path / "eel").mkdir()
        (tmp_path / "cat" / "loop").symlink_to(tmp_path)
        task = create_task(f"folder:{tmp_path}", size=8)
        assert task.read["left out"] == "folders without images: eel; links to a folder above: cat/loop"

    def test_folders_that_become_one_class_are_told(self, tmp_path):
        for name, classes in (("x", {"cat": 5, "dog": 5}), ("y", {"cat": 5})):
            make_folder(tmp_path / name, classes)
        task = create_task(f"folder:{tmp_path}", size=8)
        assert "the images of x/cat, y/cat are one class, cat; 2 classes" in task.read["folders"]

    def test_the_summary_has_one_line_for_each_fact(self, tmp_path):
        make_folder(tmp_path, {"a\nb": 5, "dog": 5})
        task = create_task(f"folder:{tmp_path}", size=8)
        assert "2 classes: a b, dog" in task.read["folders"]
        assert task.classes == ("a\nb", "dog")

    def test_links_to_class_folders_are_followed(self, tmp_path):
        make_folder(tmp_path / "store", {"cat": 5, "dog": 5})
        (tmp_path / "data").mkdir()
        for name in ("cat", "dog"):
            (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
        assert sum(create_task(f"folder:{tmp_path / 'data'}", size=8).splits.values()) == 10


class TestExtensions:
    def test_every_extension_is_read_and_told(self, tmp_path):
        # Before, only .png, .jpg and .jpeg were read, so half of such a folder was left out without a word.
        make_folder(tmp_path, {"cat": 6, "dog": 6})
        forms = {"bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "gif": "GIF", "PPM": "PPM"}
        for name in ("cat", "dog"):
            for extension, form in forms.items():
                (tmp_path / name / f"a.{extension}").write_bytes(encoded(Image.new("RGB", (9, 9)), form))
            (tmp_path / name / "notes.txt").write_text("no image")
        task = create_task(f"folder:{tmp_path}", size=8)
        assert sum(task.splits.values()) == 22
        assert task.read["files"] == "12 .png, 2 .bmp, 2 .gif, 2 .ppm, 2 .tif, 2 .webp"
        assert task.read["left out"] == "no images: 2 .txt"
        assert len(task.read) <= 5

    def test_what_pillow_cannot_decode_alone_is_no_image(self):
        extensions = readable_extensions()
        assert {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm"} <= extensions
        assert not {".eps", ".mpg", ".h5", ".grib", ".pdf", ".wmf"} & extensions

    def test_no_image_at_all_tells_what_there_is(self, tmp_path):
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat" / "a.npy").write_bytes(b"1")
        with pytest.raises(DataError, match=r"Found 0 images in .*it contains 1 \.npy"):
            create_task(f"folder:{tmp_path}")


class TestModes:
    def test_grey_of_16_bits(self, tmp_path):
        # Before, both were clipped to white, so the two classes were equal.
        for name, level in (("dark", 20_000), ("light", 45_000)):
            (tmp_path / name).mkdir()
            for i in range(5):
                image = Image.fromarray(np.full((9, 9), level, np.uint16))
                (tmp_path / name / f"{i}.png").write_bytes(encoded(image))
        task = create_task(f"folder:{tmp_path}", size=8, **RAW)
        x, y = next(task.eval_batches("train", 10))
        assert torch.equal(x[:, 0, 4, 4].round(), torch.where(y == 0, 20_000 >> 8, 45_000 >> 8).float())
        assert task.read["pixels"] == "10 I;16 (byte = v >> 8); each to 8x8 RGB"

    @pytest.mark.parametrize("order", ["<u2", ">u2"])
    def test_both_byte_orders(self, order):
        mode = "I;16B" if order == ">u2" else "I;16"
        image = Image.frombytes(mode, (8, 8), np.full((8, 8), 0x1234, order).tobytes())
        assert first_pixels(encoded(image, "TIFF")) == [0x12] * 3

    def test_integers_of_32_bits(self):
        image = Image.fromarray(np.full((8, 8), 45_000, np.int32))
        assert first_pixels(encoded(image, "TIFF")) == [45_000 >> 8] * 3

    def test_floats_from_0_to_1(self):
        image = Image.fromarray(np.full((8, 8), 0.4, np.float32))
        assert first_pixels(encoded(image, "TIFF")) == [102] * 3

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (np.full((8, 8), 70_000, np.int32), "32-bit integers from 70000 to 70000, allowed are 0 to 65535"),
            (np.full((8, 8), 200.0, np.float32), "floats from 200 to 200, allowed are 0 to 1"),
            (np.full((8, 8), np.nan, np.float32), "floats from nan to nan"),
        ],
    )
    def test_other_ranges_are_refused(self, tmp_path, values, said):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        (tmp_path / "cat" / "x.tif").write_bytes(encoded(Image.fromarray(values), "TIFF"))
        with pytest.raises(DataError, match=rf"1 of 11 images cannot be read: cat/x.tif \({said}"):
            create_task(f"folder:{tmp_path}", size=8)

    def test_palette_alpha_and_cmyk(self):
        red = Image.new("RGB", (8, 8), (255, 0, 0))
        clear = red.convert("RGBA")
        clear.putalpha(128)
        assert first_pixels(encoded(clear)) == [255, 0, 0]
        palette = red.convert("P")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert first_pixels(encoded(palette, transparency=bytes([0, 128]))) == [255, 0, 0]
        assert first_pixels(encoded(Image.new("LA", (8, 8), (77, 5)))) == [77] * 3
        assert first_pixels(encoded(Image.new("1", (8, 8), 1))) == [255] * 3
        assert first_pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")) == [255, 0, 0]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation):
        # By the EXIF standard: where the stored corner of row 0 and column 0 belongs in the upright picture.
        corner = {1: (0, 0), 2: (0, 7), 3: (7, 7), 4: (7, 0), 5: (0, 0), 6: (0, 7), 7: (7, 7), 8: (7, 0)}[orientation]
        stored = np.zeros((8, 8), np.uint8)
        stored[0, 0], stored[0, 1] = 255, 128
        # The second pixel of row 0 lies beside the corner, along a row for 1 to 4 and along a column for 5 to 8.
        exif = Image.Exif()
        exif[274] = orientation
        upright = decode(encoded(Image.fromarray(stored), exif=exif), 8)[0][:, :, 0]
        assert upright[corner] == 255
        (beside,) = np.argwhere(upright == 128)
        assert (beside[0] == corner[0]) == (orientation <= 4)

    def test_orientation_is_told_and_changes_the_identity(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        exif = Image.Exif()
        exif[274] = 6
        file = tmp_path / "cat" / "0.png"
        file.write_bytes(encoded(Image.new("RGB", (9, 9)), exif=exif))
        assert create_task(f"folder:{tmp_path}", size=8).read["pixels"].endswith("1 turned upright by EXIF")

    def test_dropped_alpha_and_further_pages_are_told(self, tmp_path):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        red = Image.new("RGB", (9, 9), (255, 0, 0))
        (tmp_path / "cat" / "a.png").write_bytes(encoded(red.convert("RGBA")))
        (tmp_path / "cat" / "b.tif").write_bytes(encoded(red, "TIFF", save_all=True, append_images=[red, red]))
        blue = Image.new("RGB", (9, 9), (0, 0, 255))
        (tmp_path / "cat" / "c.gif").write_bytes(encoded(red, "GIF", save_all=True, append_images=[blue]))
        assert create_task(f"folder:{tmp_path}", size=8).read["pixels"].split("; ")[2:] == [
            "1 with an alpha channel, which is dropped",
            "2 with more pages or frames, of which the first is read",
        ]

    def test_images_of_16_bits_that_use_few_levels_are_told(self, tmp_path):
        # 12 bits in a file of 16: all bytes are 15 or less.
        for name, level in (("dark", 1000), ("light", 4095)):
            (tmp_path / name).mkdir()
            for i in range(5):
                (tmp_path / name / f"{i}.png").write_bytes(encoded(Image.fromarray(np.full((9, 9), level, np.uint16))))
        said = create_task(f"folder:{tmp_path}", size=8).read["pixels"]
        assert said.endswith("warning: the largest byte is 15 of 255, so most levels are lost; scale the values")

    def test_broken_exif_is_ignored(self):
        data = encoded(Image.new("RGB", (8, 8), (9, 9, 9)), "JPEG", exif=b"Exif\0\0broken")
        assert first_pixels(data) == [9, 9, 9]


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in its header, whose checksums are right."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def with_faults(tmp_path) -> Path:
    make_folder(tmp_path, {"cat": 5, "dog": 5})
    cat = tmp_path / "cat"
    (cat / "a.png").write_bytes(bomb())
    (cat / "b.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(cat / "c.png")
    (cat / "d.png").write_bytes(b"")
    (cat / "e.png").write_bytes(encoded(Image.effect_noise((64, 64), 50))[:600])
    (cat / "f.png").symlink_to("/dev/zero")
    return tmp_path


class TestRefused:
    def test_all_faults_in_one_error_with_the_first_five_names(self, with_faults):
        with pytest.raises(DataError) as error:
            create_task(f"folder:{with_faults}", size=8)
        said = str(error.value)
        assert said.startswith("6 of 16 images cannot be read: cat/a.png (Image size (900000000 pixels) exceeds limit")
        for name in ("b.png (broken link)", "c.png (not a regular file)", "d.png (empty file)", "e.png ("):
            assert f"cat/{name}" in said
        assert "f.png" not in said
        assert said.endswith(", ...; repair or remove them")

    def test_images_that_are_not_kept_are_checked_too(self, with_faults, monkeypatch):
        monkeypatch.setattr(image_tasks, "MEMORY_LIMIT_BYTES", 100)
        # The file that ends too early has a sound header. The device is a fault instead.
        with pytest.raises(DataError, match=r"5 of 16 images cannot be read: cat/a.png .*cat/f.png \(not a regular"):
            create_task(f"folder:{with_faults}", size=8)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_truncated_file_ends_training_with_its_name(self, tmp_path, monkeypatch, workers):
        make_folder(tmp_path, {"cat": 5, "dog": 5})
        for name in ("cat", "dog"):
            for i in range(5):
                (tmp_path / name / f"{i}.png").write_bytes(encoded(Image.effect_noise((64, 64), 50))[:600])
        monkeypatch.setattr(image_tasks, "MEMORY_LIMIT_BYTES", 100)
        task = create_task(f"folder:{tmp_path}", size=8)
        task.workers = workers
        with pytest.raises(DataError, match=r"3 of 3 images cannot be read: \w+/\d.png \(image file is truncated"):
            list(task.train_batches(3, seed=0, epoch=1))

    def test_faults_in_a_tar(self, tmp_path):
        path = class_tar(tmp_path / "sound.tar", {"cat": 3, "dog": 3})
        assert create_task(f"tar:{path}", size=8).splits["train"] == 2
        members = {f"{name}/{i}.png": png(9) for name in ("cat", "dog") for i in range(3)} | {"cat/9.png": bomb()}
        with pytest.raises(DataError, match=r"1 of 7 images cannot be read: cat/9.png \(Image size"):
            create_task(f"tar:{make_tar(tmp_path / 'bad.tar', members)}", size=8)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise")
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(20):
            image = Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8))
            (root / name / f"{i}.png").write_bytes(encoded(image))
    return root


class TestWorkers:
    @pytest.mark.parametrize("augmentation", ["none", "crop", "randaug"])
    def test_batches_do_not_depend_on_the_workers(self, noise, monkeypatch, augmentation):
        def batches(workers):
            task.workers = workers
            return [*task.train_batches(7, seed=3, epoch=2, augmentation=augmentation), *task.eval_batches("val", 5)]

        task = create_task(f"folder:{noise}", size=16)
        expected = batches(0)
        monkeypatch.setattr(image_tasks, "MEMORY_LIMIT_BYTES", 100)
        task = create_task(f"folder:{noise}", size=16)
        state = torch.get_rng_state()
        for workers in (0, 1, 2):
            got = batches(workers)
            assert len(got) == len(expected)
            for (x, y), (x0, y0) in zip(got, expected, strict=True):
                assert torch.equal(x, x0)
                assert torch.equal(y, y0)
        assert torch.equal(torch.get_rng_state(), state)  # the model's random numbers stay where they were

    def test_the_augmentation_of_an_image_does_not_depend_on_its_batch(self, noise):
        task = create_task(f"folder:{noise}", size=16)

        def images(batch_size):
            batches = list(task.train_batches(batch_size, seed=1, epoch=1, augmentation="crop"))
            return torch.cat([x for x, _ in batches])

        assert torch.equal(images(8), images(24))  # the order of the images is that of (seed, epoch) too
