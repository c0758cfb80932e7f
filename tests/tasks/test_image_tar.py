"""What is read of tar files: damage, links, and members that are left out."""

from __future__ import annotations

import io
import tarfile

import pytest

from nasbench.errors import DataError
from nasbench.tasks import create_task
from tests.tasks.test_images import class_tar, make_tar, png


@pytest.fixture
def sound(tmp_path):
    """A tar of 10 images, each a header of 512 bytes and contents of 512 bytes, and the end mark behind them."""
    return class_tar(tmp_path / "sound.tar", {"cat": 5, "dog": 5})


class TestDamage:
    # Before, the images behind the damage were left out without a word, or the error spoke of one class.

    def test_a_header_in_the_middle(self, sound):
        content = bytearray(sound.read_bytes())
        content[6 * 1024 : 6 * 1024 + 512] = bytes(range(256)) * 2
        sound.write_bytes(content)
        with pytest.raises(DataError, match=r"sound.tar is damaged at byte 6,144: the header there is not valid"):
            create_task(f"tar:{sound}", size=8)

    def test_a_header_of_zeros_in_the_middle(self, sound):
        content = bytearray(sound.read_bytes())
        content[6 * 1024 : 6 * 1024 + 512] = bytes(512)
        sound.write_bytes(content)
        with pytest.raises(DataError, match=r"data at byte 6,656, behind the end mark of a tar at byte 6,144"):
            create_task(f"tar:{sound}", size=8)

    @pytest.mark.parametrize("length", [6 * 1024, 6 * 1024 + 100, 6 * 1024 + 512, 6 * 1024 + 600])
    def test_cut_off(self, sound, length):
        sound.write_bytes(sound.read_bytes()[:length])
        with pytest.raises(DataError, match=f"is damaged: it ends at byte {length:,} without the end mark"):
            create_task(f"tar:{sound}", size=8)

    def test_two_joined_tar_files(self, sound):
        sound.write_bytes(sound.read_bytes() * 2)
        with pytest.raises(DataError, match=r"data at byte 20,480, .*several tar files were joined"):
            create_task(f"tar:{sound}", size=8)

    def test_an_inner_tar(self, tmp_path, sound):
        content = sound.read_bytes()
        path = make_tar(tmp_path / "outer.tar", {"a.tar": content, "b.tar": content[: 6 * 1024]})
        with pytest.raises(DataError, match=r"b.tar in .*outer.tar is damaged: it ends at byte 6,144"):
            create_task(f"tar:{path}", size=8)


def test_links_and_special_members(tmp_path):
    # Before, hard links were left out, and nothing was said about other links and pipes.
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as file:
        for kind, name, target in (
            (tarfile.LNKTYPE, "./dog/before.png", "cat/0.png"),
            (tarfile.SYMTYPE, "cat/soft.png", "0.png"),
            (tarfile.FIFOTYPE, "cat/pipe.png", ""),
            (tarfile.LNKTYPE, "cat/lost.png", "cat/nowhere.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            file.addfile(info)
        for name in ("./cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/notes.txt"):
            info = tarfile.TarInfo(name)
            content = png(70 if name == "./cat/0.png" else 9)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    task = create_task(f"tar:{path}", size=8, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    assert sum(task.splits.values()) == 6
    assert task.labels.tolist().count(1) == 3
    images = {
        (float(x[i, 0, 0, 0]), int(y[i]))
        for s in task.splits
        for x, y in task.eval_batches(s, 9)
        for i in [*range(len(x))]
    }
    assert images == {(70.0, 0), (70.0, 1), (9.0, 0), (9.0, 1)}  # the link is a dog with the pixels of the first cat
    assert task.read["left out"] == (
        "no images: 1 .txt; links, pipes and devices in the tar: cat/soft.png, cat/pipe.png, cat/lost.png"
    )
