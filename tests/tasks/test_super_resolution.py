"""Super-resolution: what is read, crops, whole images, metrics, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from nasbench.backbones.dense import create_dense
from nasbench.errors import DataError, InputError
from nasbench.tasks import create_task
from nasbench.tasks.image_quality import luma, psnr, ssim
from nasbench.tasks.super_resolution import bicubic
from nasbench.testing import check_task
from nasbench.training.loop import check_recipe, evaluate

SIZES = {"train/a.png": (60, 50), "train/b.png": (41, 75), "val/c.png": (47, 33), "test/d.png": (40, 64)}


def smooth(width, height, seed=0, channels=3):
    """A picture with edges and gradients."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, channels), dtype=np.uint8)
    large = Image.fromarray(small.squeeze()).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large)


@pytest.fixture
def folder(tmp_path):
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(smooth(width, height, number)).save(tmp_path / name)
    return tmp_path


def task_of(folder, **options):
    return create_task(f"sr:{folder}", **{"size": 24, **options})


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_image(seed):
    draw = np.random.default_rng(seed)
    truth = smooth(53 + seed, 41, seed).transpose(2, 0, 1)
    found = np.clip(truth + draw.normal(0, 9, truth.shape), 0, 255).astype(np.uint8)
    one, two = (luma(torch.from_numpy(image.copy()), 3) for image in (found, truth))
    assert one.shape == (35, 47 + seed)
    a, b = one.numpy(), two.numpy()
    assert psnr(one, two) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-6)
    judged = structural_similarity(
        b, a, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # fmt: skip
    assert ssim(one, two) == pytest.approx(judged, abs=1e-6)


def test_luma_and_psnr_by_hand():
    white, black = torch.full((3, 4, 5), 255, dtype=torch.uint8), torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert torch.allclose(luma(white, 1), torch.full((2, 3), 235.0, dtype=torch.float64))
    assert luma(black, 0).unique().tolist() == [16]
    # Y differs by 219, so the error is 219².
    assert psnr(luma(white, 0), luma(black, 0)) == pytest.approx(20 * np.log10(255 / 219))
    # equal images count as if one of 6 pixels differed by one
    assert psnr(luma(white, 1), luma(white, 1)) == pytest.approx(10 * np.log10(255**2 * 6))


def test_the_small_image_is_pillows(folder):
    task = task_of(folder)
    small, large = task.pair("val", 0)
    whole = Image.open(folder / "val" / "c.png").crop((0, 0, 46, 32))
    assert np.array_equal(large.permute(1, 2, 0), np.asarray(whole))
    assert np.array_equal(small.permute(1, 2, 0), np.asarray(whole.resize((23, 16), Image.Resampling.BICUBIC)))
    assert any("2 images are cropped to a multiple of 2" in note for note in task.notes)


def test_an_untrained_model_is_bicubic(folder):
    """The head starts at zero, and torch's bicubic enlargement with antialias is Pillow's but for rounding."""
    task = task_of(folder)
    model = task.attach(create_dense("sr_residual", input_size=task.input_size))
    naive, same = task.naive("test").values()
    metrics, items = evaluate(model, task, "test")
    assert metrics == pytest.approx(same, abs=1e-9)  # so that the warning of a report can say so
    assert metrics == pytest.approx(naive, abs=0.1)
    assert items.mean() == pytest.approx(metrics["psnr"])
    (inputs, targets), *_ = task.eval_batches("test", 4)
    (found,) = task.predictions(model, model(inputs), targets)
    small, large = task.pair("test", 0)
    assert found.shape == large.shape
    # Pillow rounds to bytes after each of its two passes.
    assert (found.float() - bicubic(small, 2).float()).abs().mean() < 1


def test_crops_belong_together_and_repeat(folder):
    """Each small crop is the bicubic reduction of its large one, but at the border, where it has no neighbours."""
    task = task_of(folder, scale=3)
    # 60 x 50 holds 2 x 2 crops of 24 pixels, 41 x 75 holds 1 x 3.
    assert task.splits == {"train": 7, "val": 1, "test": 1}
    for augmentation in ("none", "flip"):
        one, two = (list(task.train_batches(4, seed=1, epoch=2, augmentation=augmentation)) for _ in range(2))
        assert all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
        for small, large in one:
            assert small.shape[1:] == (3, 8, 8)
            assert large.shape[1:] == (3, 24, 24)
            again = nn.functional.interpolate(large, (8, 8), mode="bicubic", antialias=True)
            assert (again - small)[..., 2:-2, 2:-2].abs().max() < 0.01
    other = next(iter(task.train_batches(4, seed=1, epoch=3)))
    assert not torch.equal(one[0][0], other[0])
    with pytest.raises(InputError, match=r"augmentation=crop: .* takes none or flip"):  # before a search begins
        check_recipe(task.recipe.with_settings({"augmentation": "crop"}), task, "cpu")


def test_whole_images_are_padded_by_reflection(folder):
    task = task_of(folder)
    ((inputs, (target,)),) = task.eval_batches("val", 8)
    small, _ = task.pair("val", 0)
    assert inputs.shape == (1, 3, 16, 32)
    assert target["size"] == (16, 23)
    assert torch.equal(inputs[0, :, :, 23:], small[:, :, 14:].flip(2).float() / 255)


def test_neighbours_of_one_size_share_a_batch(folder):
    for name in ("val/e.png", "val/f.png"):
        Image.fromarray(smooth(33, 47)).save(folder / name)
    Image.fromarray(smooth(80, 80)).save(folder / "val/z.png")
    batches = list(task_of(folder).eval_batches("val", 2))
    assert [tuple(x.shape) for x, _ in batches] == [
        (1, 3, 16, 32), (2, 3, 32, 16), (1, 3, 48, 48)
    ]  # fmt: skip
    assert [len(y) for _, y in batches] == [1, 2, 1]


def test_the_contract(folder):
    assert [result.message for result in check_task(task_of(folder, scale=4)) if not result.passed] == []


def test_grey_images_and_opaque_alpha(folder):
    Image.fromarray(smooth(60, 60, channels=1)).save(folder / "train" / "grey.png")
    opaque = np.dstack([smooth(60, 60), np.full((60, 60), 255, dtype=np.uint8)])
    Image.fromarray(opaque).save(folder / "train" / "opaque.png")
    task = task_of(folder)
    assert task.read["grey"] == "1, with three equal channels"
    assert task.read["alpha"] == "1 opaque alpha channel dropped"
    small, _ = task.pair("train", 2)
    assert torch.equal(small[0], small[2])


def write(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(folder / name)
    else:
        (folder / name).write_bytes(content)


CLEAR = np.dstack([smooth(60, 60), np.full((60, 60), 128, dtype=np.uint8)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train/small.png",
            smooth(60, 20),
            r"train images below 24 x 24 pixels \(1\): train/small.png has 60 x 20; .*--size",
        ),
        ("test/tiny.png", smooth(14, 40), r"test images below 15 x 15 pixels \(1\): test/tiny.png has 14 x 40; leave"),
        ("train/clear.png", CLEAR, r"transparent pixels \(1\): train/clear.png; put them onto a background"),
        ("train/text.png", b"hello", r"cannot be read as images \(1\): train/text.png: not an image"),
        ("loose.png", smooth(60, 60), r"outside of the folders of the splits \(1\): loose.png; move"),
    ],
)
def test_refused_images(folder, name, content, message):
    write(folder, name, content)
    with pytest.raises(DataError, match=message):
        task_of(folder)


def test_refused_data_and_settings(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="has no files"):
        task_of(empty)
    (empty / "a.txt").write_text("no image")
    with pytest.raises(DataError, match=r"has no images; give a folder or .tar of photographs"):
        task_of(empty)
    with pytest.raises(InputError, match="scale must be one of 2, 3, 4, got 5"):
        task_of(folder, scale=5)
    with pytest.raises(InputError, match="a multiple of the scale 2, got 25; the nearest is 24"):
        task_of(folder, size=25)


def test_folders_of_div2k(tmp_path):
    for split in ("train", "valid"):
        for number in range(2):
            write(tmp_path / f"DIV2K_{split}_HR", f"{number}.png", smooth(40, 40, number))
    task = task_of(tmp_path)
    assert task.read["splits"] == "2 train, 2 val"
    write(tmp_path / "DIV2K_valid_LR_bicubic" / "X2", "0x2.png", smooth(20, 20))
    with pytest.raises(DataError, match=r"folders of small images \(2\): DIV2K_valid_LR_bicubic; .*X2; move them away"):
        task_of(tmp_path)


def test_drawn_splits_and_the_default_crop(tmp_path):
    for number in range(10):
        write(tmp_path, f"{number}.png", smooth(101, 97, number))
    task = create_task(f"sr:{tmp_path}", seed=3)
    assert {split: len(rows) for split, rows in task.indices.items()} == {"train": 6, "val": 2, "test": 2}
    assert task.crop == 96
    with pytest.raises(DataError, match=r"train images below 144 x 144 .*: 0.png has 101 x 97; .*--size"):
        create_task(f"sr:{tmp_path}", scale=3)
    assert any("drawn at random, seed 3" in note for note in task.notes)


def test_the_embedded_photographs():
    task = create_task("photos-sr")
    assert task.input_size == (3, 24, 24)
    assert task.splits == {"train": 148, "val": 30, "test": 27}
    assert task.naive("val")["bicubic"]["psnr"] == pytest.approx(30.89, abs=0.01)
    photographs = {split: {task.source.names[i].split()[0] for i in rows} for split, rows in task.indices.items()}
    assert not photographs["train"] & (photographs["val"] | photographs["test"])
    assert not photographs["val"] & photographs["test"]
