"""Data sets that timm's readers open: splits, order, labels, and packages that are missing."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.runs.data import _absolute
from nasbench.tasks import create_task
from nasbench.tasks._timm_sources import _held, _key_and_kind
from tests.tasks.test_images import make_tar, png


@pytest.mark.parametrize(("kind", "package"), [("hfds", "datasets"), ("tfds", "tensorflow"), ("wds", "webdataset")])
def test_a_missing_package_is_named(kind, package):
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(InputError, match=rf"timm:{kind} needs .*{package}.*: pip install .*{package}"):
        create_task(f"timm:{kind}/some-name")


def test_other_readers_are_refused():
    with pytest.raises(UnknownNameError, match=r"did you mean 'hfds'.*folder:PATH"):
        create_task("timm:hfd/cats")
    with pytest.raises(InputError, match="has no name of a data set"):
        create_task("timm:wds")
    with pytest.raises(InputError, match="has no path or name of data"):
        create_task("timm:")


def test_keys_as_webdataset_reads_them():
    assert _key_and_kind("a.b/7.seg.png") == ("a.b/7", "seg.png")
    assert _key_and_kind("7.jpg") == ("7", "jpg")


def test_a_reader_that_streams_is_held():
    from PIL import Image

    items = [(Image.new("RGB", (4, 4), (shade, 0, 0)), np.int64(shade % 2)) for shade in range(6)]
    opened = _held("train", iter(items), {})
    assert opened.labels == [0, 1, 0, 1, 0, 1]
    assert [opened.read(i).getpixel((0, 0))[0] for i in (5, 0, 3)] == [5, 0, 3]


@pytest.fixture
def shards(tmp_path):
    """Three shards of a WebDataset, two for training. The shade of an image is 40, and 40 more for class 1."""
    pytest.importorskip("webdataset")

    def write(name, numbers):
        members = {}
        for i in numbers:
            members |= {f"x/{i}.cls": str(i % 2).encode(), f"x/{i}.png": png(40 + 40 * (i % 2))}
        make_tar(tmp_path / name, members)
        return len(numbers)

    splits = {"train": {"a.tar": range(6), "b.tar": range(6, 10)}, "validation": {"c.tar": range(10, 16)}}
    info = {
        split: {
            "name": split,
            "filenames": list(files),
            "shard_lengths": (lengths := [write(name, numbers) for name, numbers in files.items()]),
            "num_samples": sum(lengths),
        }
        for split, files in splits.items()
    }
    (tmp_path / "_info.json").write_text(json.dumps({"splits": info}))
    return tmp_path


def test_webdataset(shards):
    task = create_task(f"timm:wds/{shards}", size=8, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    assert task.splits == {"train": 8, "val": 6, "test": 2}
    assert "train from train (10 images), val from validation (6 images); 2 classes" in task.read["splits"]
    for split in task.splits:
        x, y = next(task.eval_batches(split, 20))
        assert torch.allclose(x[:, 0, 4, 4], 40.0 + 40 * y)
    assert _absolute(f"timm:wds/{shards}") == f"timm:wds/{shards.resolve()}"


def test_a_webdataset_with_faults(shards):
    make_tar(shards / "c.tar", {"x/1.png": png(1)})
    with pytest.raises(DataError, match=r"c.tar: x/1.png has no label, x/1.cls"):
        create_task(f"timm:wds/{shards}")
    (shards / "c.tar").unlink()
    with pytest.raises(DataError, match=r"c.tar cannot be read: .*No such file"):
        create_task(f"timm:wds/{shards}")
    with pytest.raises(DataError, match="no folder at"):
        create_task(f"timm:wds/{shards / 'nowhere'}")
