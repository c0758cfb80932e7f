"""Measure a group of the atlas: an ordinary search of given plans, which further passes extend."""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from nasbench.errors import DataError, RunError
from nasbench.evidence.atlas import code_file, code_hashes, read_code
from nasbench.evidence.atlas_protocol import LATENCY_S, Group, Pass
from nasbench.files import write_text
from nasbench.library.modules import list_modules
from nasbench.runs.folder import RunFolder
from nasbench.runs.run import load_run
from nasbench.study.phases.events import Listener
from nasbench.study.search import search

if TYPE_CHECKING:
    from nasbench.runs.run import Run

__all__ = ["cifar10_tenth", "data_of", "plans_of", "run_group"]

_TRAINED, _VALIDATED = 100, 200  # images a class
_CIFAR_TAR = "cifar10-tenth.tar"


def plans_of(group: Group, of_pass: Pass) -> list[str]:
    """Return the plans of a pass: each module at every stage, then, if the pass says so, at each single stage."""
    names = list_modules(dims=group.dims, kind="module")
    stages = group.stages if of_pass.stages else ()
    return [*names, *(f"{stage}={name}" for stage in stages for name in names)]


def run_group(
    group: Group,
    of_pass: Pass,
    out: Path,
    *,
    data: Path | None = None,
    device: str = "auto",
    on_event: Listener | None = None,
) -> Run:
    """Measure a group, or extend its run. An interrupted pass is resumed by the same call.

    Args:
        group: The group.
        of_pass: The pass. A run that has more seeds already keeps them.
        out: The run folder.
        data: The folder with the files of the group. None if it needs none.
        device: The device.
        on_event: As in `nasbench.search`.

    Raises:
        DataError: If a file of the data is missing.
        RunError: If the code of a module was changed after the run was begun. Also as `nasbench.search` says.
    """
    earlier = load_run(out).settings.seeds if RunFolder(out).is_run else None
    _record_code(group, out)
    return search(
        plans=plans_of(group, of_pass),
        backbone=group.host,
        task=group.task.format(data=data_of(group, data, out.parent)),
        seeds=max(of_pass.seeds, earlier or 0),
        latency_s=LATENCY_S,
        device=device,
        out=out,
        on_event=on_event,
        report=False,
        **group.settings,
    )


def data_of(group: Group, folder: Path | None, made: Path) -> Path | None:
    """Return the file that a group's task reads. None if its data ships with a package.

    Args:
        group: The group.
        folder: The folder with the files of the group.
        made: The folder in which a file is made of the given ones, if the group needs a part of them.

    Raises:
        DataError: If the folder was not given, or lacks a file.
    """
    if not group.files:
        return None
    if folder is None:
        raise DataError(f"{group.name} reads {' and '.join(group.files)}; give their folder by --data")
    files = [folder / name for name in group.files]
    for file in files:
        if not file.is_file():
            raise DataError(f"no file at {file}, which {group.name} reads; give the folder of the file by --data")
    return files[0] if len(files) == 1 else cifar10_tenth(files[0], files[1], made / _CIFAR_TAR)


def cifar10_tenth(train: Path, test: Path, out: Path) -> Path:
    """Write a tenth of the training images, others to validate and all test images into a tar, and return it.

    Of each class, sorted by name, the first 100 images of the training file are trained on, and the next 200 are
    validated on. So the training set is small, and differences can still be told apart. The images are copied
    unchanged. A file that exists is not written again.

    Args:
        train: The tar file with the training images, in class folders.
        test: The tar file with the test images, likewise.
        out: The new tar file, with the folders train, val and test.
    """
    if out.is_file():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with tarfile.open(train) as of_train, tarfile.open(test) as of_test, tarfile.open(part, "w") as target:
        for images in _by_class(of_train):
            _copy(of_train, images[:_TRAINED], "train", target)
            _copy(of_train, images[_TRAINED : _TRAINED + _VALIDATED], "val", target)
        for images in _by_class(of_test):
            _copy(of_test, images, "test", target)
    part.replace(out)
    return out


def _by_class(source: tarfile.TarFile) -> list[list[str]]:
    """Return the names of the images of each class, both sorted."""
    classes: dict[str, list[str]] = defaultdict(list)
    for member in source.getmembers():
        if member.isfile():
            classes[member.name.rpartition("/")[0]].append(member.name)
    return [sorted(classes[name]) for name in sorted(classes)]


def _copy(source: tarfile.TarFile, names: list[str], split: str, target: tarfile.TarFile) -> None:
    for name in names:
        content = source.extractfile(name)
        assert content is not None
        read = content.read()
        member = tarfile.TarInfo(f"{split}/{name.removeprefix('./')}")  # no owner and no date, so that copies are equal
        member.size = len(read)
        target.addfile(member, io.BytesIO(read))


def _record_code(group: Group, out: Path) -> None:
    """Record the hash of each module's code beside the run. Refuse to extend the run if the code was changed."""
    hashes = code_hashes(list_modules(dims=group.dims, kind="module"))
    file = code_file(out)
    if file.is_file():
        there = read_code(out)
        changed = [name for name, known in hashes.items() if there.get(name, known) != known]
        if changed:
            raise RunError(
                f"{', '.join(changed)}: changed after {out} was begun, so older and newer trainings differ; choose "
                "another --out, or restore the code"
            )
        hashes = there | hashes
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(hashes, indent=1) + "\n")
