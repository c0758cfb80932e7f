"""Find the images in an uncompressed tar file, and refuse a file that is damaged or cut off."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from timm.utils.misc import natural_key

from nasbench.errors import DataError
from nasbench.tasks._image_layout import Tree, extension_of, is_hidden, listed, readable_extensions

__all__ = ["tree_of_tar"]

_CHUNK_BYTES = 1 << 20


def tree_of_tar(path: Path) -> tuple[Tree, list[tuple[int, int]]]:
    """Return the files of a tar, also of the tars directly in it, and the position and length of each image in bytes.

    A hard link is read as the member that it links to. Other links, pipes and devices have no contents in the tar.
    They are left out and told.

    Raises:
        DataError: If it is not an uncompressed tar, if it is damaged or cut off, or if it has no image.
    """
    with open(path, "rb") as file:
        found = _scan(file, str(path))
    # The order by which timm's reader numbers the images. An image of an inner tar is sorted by its path in there.
    found.images.sort(key=lambda image: natural_key(image.path))
    shown = [image for image in found.images if not any(map(is_hidden, image.steps))]
    hidden = ["/".join(image.steps) for image in found.images if any(map(is_hidden, image.steps))]
    if not shown:
        raise DataError(f"{path} contains no image; give a tar with class folders that have images inside")
    tree = Tree(
        str(path),
        ["/".join(image.steps) for image in shown],
        found.others,
        hidden,
        [image.name for image in shown],
        tuple(_remarks(found)),
    )
    return tree, [image.place for image in shown]


@dataclass(frozen=True)
class _Image:
    name: str
    path: str
    steps: list[str]
    place: tuple[int, int]


@dataclass
class _Found:
    """What a tar contains."""

    images: list[_Image] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    special: list[str] = field(default_factory=list)
    """Members without contents of their own: symbolic links, pipes and devices."""
    folders: list[str] = field(default_factory=list)


def _remarks(found: _Found) -> Iterator[str]:
    if found.special:
        yield f"links, pipes and devices in the tar: {listed(found.special, 3)}"
    used = {step for image in found.images for step in _folders_above(image.steps)}
    empty = [folder for folder in found.folders if folder and folder not in used]
    if empty:
        yield f"folders without images: {listed(empty, 3)}"


def _folders_above(steps: list[str]) -> list[str]:
    return ["/".join(steps[:depth]) for depth in range(1, len(steps))]


def _scan(file: IO[bytes], where: str, around: tuple[str, ...] = (), start: int = 0) -> _Found:
    """Return what a tar contains. A tar inside it counts as a folder of its name, a tar in that as no image.

    Args:
        file: The tar, at its first byte.
        where: The tar for messages.
        around: Folders of an inner tar, with its own name last.
        start: Position of the tar's first byte in the file on disk.
    """
    found, inside = _Found(), _Found()
    readable = readable_extensions()
    files: dict[str, tarfile.TarInfo] = {}
    members = []
    for archive, member in _members(file, where):
        if member.isdir():
            found.folders.append("/".join([*around, *_steps(member.path)]))
        else:
            members.append(member)
        if member.isfile() and not member.issparse():  # the contents of a sparse file lie in pieces
            files["/".join(_steps(member.name))] = member
            if extension_of(member.path) == ".tar" and not around:
                opened: Any = archive.extractfile(member)
                folder = _steps(os.path.splitext(member.path)[0])
                inner = _scan(opened, f"{member.path} in {where}", tuple(folder), member.offset_data)
                inside.images += inner.images
                found.others += inner.others
                found.special += inner.special
    for member in members:
        steps, extension = [*around, *_steps(member.path)], extension_of(member.path)
        # A link can stand before or behind the member that has the contents.
        held = files.get("/".join(_steps(member.linkname if member.islnk() else member.name)))
        if held is None:
            found.special.append("/".join(steps))
        elif extension in readable:
            place = (start + held.offset_data, held.size)
            found.images.append(_Image(member.name, member.path, steps, place))
        elif not any(map(is_hidden, steps)) and (extension != ".tar" or around):
            found.others[extension] += 1
    found.images = inside.images + found.images
    return found


def _steps(path: str) -> list[str]:
    return [step for step in path.split("/") if step not in ("", ".")]


def _members(file: IO[bytes], where: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a tar, and check at the end that it was read to its end.

    Python's `tarfile` ends without a word at a damaged header, and at the end of a file that was cut between members.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # the caller closes the file
    except tarfile.TarError as error:
        raise DataError(f"{where} cannot be read as an uncompressed tar: {error}") from None
    try:
        for member in archive:
            yield archive, member
    except tarfile.TarError as error:
        if archive.offset >= size:
            raise DataError(_cut(where, size)) from None
        raise DataError(
            f"{where} is damaged at byte {archive.offset:,}: the header there is not valid ({error}); pack it again"
        ) from None
    file.seek(archive.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise DataError(_cut(where, size))
    if any(block):
        raise DataError(f"{where} is damaged at byte {archive.offset:,}: the header there is not valid; pack it again")
    position = file.tell()
    while chunk := file.read(_CHUNK_BYTES):
        if rest := chunk.lstrip(b"\0"):
            first = position + len(chunk) - len(rest)
            raise DataError(
                f"{where} has data at byte {first:,}, behind the end mark of a tar at byte {archive.offset:,}: it is "
                "damaged, or several tar files were joined; pack it again"
            )
        position += len(chunk)


def _cut(where: str, size: int) -> str:
    return f"{where} is damaged: it ends at byte {size:,} without the end mark of a tar; copy or pack it again"
