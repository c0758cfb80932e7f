"""Find the files of a task's data and check that they exist. This reads no file, and needs neither torch nor pandas."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nasbench.errors import DataError, InputError, UnknownNameError

__all__ = [
    "TORCHVISION",
    "class_folder",
    "csv_file",
    "find_data",
    "table_file",
    "tar_files",
    "timm_reader",
    "torchvision_name",
    "ts_files",
]

# The arguments with which torchvision selects the training and the test part of each data set.
TORCHVISION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        name: ({"train": True}, {"train": False}) for name in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST")
    },
    **{name: ({"split": "train"}, {"split": "test"}) for name in ("SVHN", "STL10")},
}

_TIMM_READERS = {"hfds": ("datasets",), "wds": ("webdataset",), "tfds": ("tensorflow_datasets", "tensorflow")}
"""The readers of timm that a task can use, and the packages that each needs."""


def find_data(text: str) -> None:
    """Check that the data of a task exists. `text` is the task as the user wrote it.

    Raises:
        DataError: If the file or folder does not exist.
        UnknownNameError: If the data set of torchvision is not supported.
        InputError: If there are too many files.
    """
    form, _, place = text.partition(":")
    checks: dict[str, Callable[[str], object]] = {
        "folder": class_folder, "tar": tar_files, "torchvision": torchvision_name, "csv": csv_file, "ett": csv_file,
        "table": table_file, "timm": timm_reader, "series": ts_files,
    }  # fmt: skip
    if form in checks:
        checks[form](place)


def class_folder(place: str) -> Path:
    """Return the folder of a task `folder:PATH`.

    Raises:
        DataError: If it does not exist.
    """
    path = Path(place).expanduser()
    if not path.is_dir():
        raise DataError(f"no folder at {path}; give a folder that contains a folder of images for each class")
    return path


def tar_files(place: str) -> list[Path]:
    """Return the files of a task `tar:FILE` or `tar:TRAIN.tar,TEST.tar`.

    Raises:
        InputError: If there are more than two files.
        DataError: If a file does not exist or its name does not end in .tar.
    """
    parts = place.split(",")
    if len(parts) > 2:
        raise InputError(f"tar: needs one file or two (training, test), got {len(parts)}")
    paths = [_file(part, "no tar file at {path}") for part in parts]
    for path in paths:
        if path.suffix.lower() != ".tar":
            raise DataError(
                f"the name of {path} does not end in .tar; give an uncompressed tar file with one folder per class"
            )
    return paths


def ts_files(place: str) -> list[Path]:
    """Return the files of a task `series:TRAIN.ts,TEST.ts` or `series:FILE.ts`.

    Raises:
        InputError: If there are more than two files.
        DataError: If a file does not exist.
    """
    parts = place.split(",")
    if len(parts) > 2:
        raise InputError(f"series: needs one file or two (training, test), got {len(parts)}")
    return [_file(part, "no file of series at {path}") for part in parts]


def annotated_images(place: str) -> Path:
    """Return the folder or tar file of a task `segment:PATH`, `detect:PATH` or `sr:PATH`.

    Raises:
        DataError: If it does not exist.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f"no folder or tar file at {path}; give one that contains the images of the task")
    return path


def torchvision_name(place: str) -> str:
    """Return the name of the data set in a task `torchvision:NAME`.

    The function does not check whether the data set is on disk.

    Raises:
        UnknownNameError: If it is not one of `TORCHVISION`.
    """
    if place not in TORCHVISION:
        hint = "for any other data set, use folder:PATH or tar:FILE with class folders"
        raise UnknownNameError("torchvision data set", place, TORCHVISION, hint)
    return place


def timm_reader(place: str) -> tuple[str, str]:
    """Return the reader and the data set of a task `timm:READER/NAME`.

    Raises:
        UnknownNameError: If it is no reader.
        InputError: If the name of the data set is missing, or a package that the reader needs is not installed.
        DataError: If the folder of a WebDataset does not exist.
    """
    kind, _, name = place.partition("/")
    kind = kind.lower()  # as in timm
    if kind not in _TIMM_READERS:
        raise UnknownNameError("reader of timm", kind, _TIMM_READERS, "for class folders use folder:PATH or tar:FILE")
    if not name:
        raise InputError(f"'timm:{place}' has no name of a data set; write it as timm:{kind}/NAME")
    missing = [package for package in _TIMM_READERS[kind] if find_spec(package) is None]
    if missing:
        install = " ".join(package.replace("_", "-") for package in missing)
        raise InputError(f"timm:{kind} needs {' and '.join(missing)}, which is not installed: pip install {install}")
    if kind == "wds" and not Path(name).is_dir():
        raise DataError(f"no folder at {name}; give the folder of the shards and of their _info.json")
    return kind, name


def csv_file(place: str) -> Path:
    """Return the file of a task `csv:PATH` or `ett:PATH`.

    Raises:
        DataError: If it does not exist.
    """
    return _file(place, "no CSV file at {path}")


def table_file(place: str | Path) -> Path:
    """Return the file of a task `table:FILE`.

    Raises:
        DataError: If it does not exist.
    """
    return _file(place, "no table at {path}; `nasbench tabulate SPACE --out {path}` makes one")


def _file(place: str | Path, missing: str) -> Path:
    """Return the path of an existing file.

    If it does not exist, the error's message is `missing`, with the path in place of `{path}`.
    """
    path = Path(place).expanduser()
    if not path.is_file():
        raise DataError(missing.format(path=path))
    return path
