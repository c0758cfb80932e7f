"""Load the images of a task: from memory, or from their files in worker processes that work ahead.

The batches are the same in both cases and for every number of workers.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from timm.data.loader import PrefetchLoader, fast_collate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nasbench.errors import DataError
from nasbench.tasks._base import Batch
from nasbench.tasks._image_augmentation import augment
from nasbench.tasks._image_decoding import NOT_BYTES, ImageFaultError, Marks, decode, marks_of, open_image
from nasbench.tasks._image_sources import ImageSource

__all__ = ["Pixels", "default_workers", "header"]

_CHUNK = 256  # number of images whose encoded bytes are in memory at the same time while decoding
_MOST_WORKERS = 8  # more rarely help, because a training with a GPU then waits for the GPU
_HALF = 128  # images in which no byte reaches this use less than half of the levels, as 12 bits in a file of 16
_HEADER_BYTES = 1 << 17  # enough for the header of nearly every image, with its EXIF


@dataclass(frozen=True)
class _Key:
    """What a batch needs from an image: its number, and the seed of its augmentation."""

    index: int
    seed: int
    augmentation: str


def default_workers() -> int:
    """Return the number of worker processes for decoding: the threads of torch, at most 8.

    The user or an engine limits torch's threads where several trainings share a machine.
    """
    # A daemonic process may not start processes.
    return 0 if multiprocessing.current_process().daemon else min(_MOST_WORKERS, torch.get_num_threads())


def header(source: ImageSource, index: int) -> Any:
    """Return an image whose pixels are not decoded, mostly from the first bytes of its file.

    Raises:
        ImageFaultError: If it cannot be read.
    """
    try:
        return open_image(source.read(index, _HEADER_BYTES))
    except ImageFaultError:  # the header of a TIFF can be at the end of the file
        return open_image(source.read(index))


class Pixels:
    """The images of a task at their final size, as bytes.

    Args:
        source: The images.
        size: Side in pixels.
        mean: Mean of each channel of pixels in [0, 1].
        std: Standard deviation of each channel.
        memory_limit: If all images fit into this number of bytes, they are decoded once and kept.

    Attributes:
        cached: All images `(n, 3, size, size)`, or None if they are decoded when they are needed.
        sha256: Hash of the names and classes, and of the contents if `cached`.
        told: What was special in the files, in one sentence. "" if the images have no files.

    Raises:
        DataError: If images cannot be read. It names the first five. Images that are not kept are checked by their
            headers, so a file that ends too early is found only when it is needed.
    """

    def __init__(
        self, source: ImageSource, size: int, mean: Sequence[float], std: Sequence[float], memory_limit: int
    ) -> None:
        self.source, self.size = source, size
        self.mean, self.std = tuple(mean), tuple(std)
        self._labels = torch.from_numpy(source.labels)
        self._hash = hashlib.sha256(repr((source.names, source.labels.tolist(), source.classes)).encode())
        count = len(source.names)
        fits = 3 * size * size * count <= memory_limit
        self.cached = torch.empty(count, 3, size, size, dtype=torch.uint8) if fits else None
        marks = self._read_all(self._keep if fits else self._look)
        # An image of bytes that stands upright is read as it always was, so the identity of its task stays.
        changed = [
            (i, mark.mode, mark.orientation)
            for i, mark in enumerate(marks)
            if mark.mode in NOT_BYTES or mark.orientation != 1
        ]
        if changed:
            self._hash.update(repr(changed).encode())
        self.sha256 = self._hash.hexdigest()
        self.told = _told(marks, size) if source.told else ""

    def _read_all(self, work: Any) -> list[Marks]:
        """Read every image in threads and return what was special about it. All faults are told in one error."""
        marks: list[Marks] = []
        faults: list[str] = []
        count = len(self.source.names)
        # Pillow decodes outside Python's global lock, so threads suffice.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, count, _CHUNK):
                for i, result in enumerate(pool.map(work, range(start, min(start + _CHUNK, count))), start):
                    if isinstance(result, ImageFaultError):
                        faults.append(f"{self.source.names[i]} ({result})")
                    else:
                        mark, item = result
                        marks.append(mark)
                        if item is not None:
                            self._hash.update(item if isinstance(item, bytes) else item.tobytes())
        if faults:
            raise _unreadable(faults, count)
        return marks

    def _keep(self, index: int) -> Any:
        assert self.cached is not None
        try:
            item = self.source.read(index)
            pixels, marks = decode(item, self.size)
        except ImageFaultError as error:
            return error
        self.cached[index] = torch.from_numpy(pixels).permute(2, 0, 1)
        return marks, item

    def _look(self, index: int) -> Any:
        try:
            return marks_of(header(self.source, index)), None
        except ImageFaultError as error:
            return error

    def batches(
        self,
        batches: Sequence[Tensor],
        *,
        device: torch.device | str,
        workers: int,
        seeds: Sequence[Sequence[int]] | None = None,
        augmentation: str = "none",
    ) -> Iterator[Batch]:
        """Yield normalised images `(B, 3, size, size)` and their class numbers `(B,)`, on the device.

        Args:
            batches: Numbers of the images of each batch.
            device: The device.
            workers: Number of processes that decode, if the images are not in memory. 0 means this process.
            seeds: The seed of the augmentation of each image. None without augmentation.
            augmentation: As in `Recipe.augmentation`.

        Raises:
            DataError: If an image cannot be read.
        """
        device = torch.device(device)
        if self.cached is None:
            given = seeds or [[0] * len(batch) for batch in batches]
            keys = [
                [_Key(int(i), seed, augmentation) for i, seed in zip(batch, drawn, strict=True)]
                for batch, drawn in zip(batches, given, strict=True)
            ]
            loader: Any = _Checked(self, keys, device, workers)
        else:
            loader = _InMemory(self, batches, seeds, augmentation)
        # Bytes are only a quarter of the data to transfer, so the loader normalises on the device. On a GPU it copies
        # the next batch while the model works on this one.
        ahead = PrefetchLoader(loader, mean=self.mean, std=self.std, device=device)
        # timm multiplies by 255 in double precision. The products in single precision keep recorded figures to the bit.
        ahead.mean, ahead.std = (torch.tensor(v).view(1, 3, 1, 1).mul(255).to(device) for v in (self.mean, self.std))
        yield from ahead

    def unreadable(self, indices: Sequence[int]) -> DataError:
        """Return the error for images of which at least one cannot be read."""
        faults = []
        for i in indices:
            try:
                decode(self.source.read(i), self.size)
            except ImageFaultError as error:
                faults.append(f"{self.source.names[i]} ({error})")
        return _unreadable(faults, len(indices))


class _InMemory:
    """The batches of images that are in memory, as bytes on the CPU."""

    def __init__(
        self, pixels: Pixels, batches: Sequence[Tensor], seeds: Sequence[Sequence[int]] | None, augmentation: str
    ) -> None:
        self._pixels, self._batches, self._seeds, self._augmentation = pixels, batches, seeds, augmentation

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        cached, labels = self._pixels.cached, self._pixels._labels
        assert cached is not None
        for number, batch in enumerate(self._batches):
            images = cached[batch]
            if self._seeds is not None:
                images = augment(images, self._augmentation, self._seeds[number])
            yield images, labels[batch]


class _Decoded(Dataset):
    """Decodes and augments an image. Runs in a worker process."""

    def __init__(self, source: ImageSource, size: int) -> None:
        self._source, self._size = source, size

    def __getitem__(self, key: _Key) -> tuple[Tensor, int]:
        try:
            decoded, _ = decode(self._source.read(key.index), self._size)
        except ImageFaultError:
            # An exception would come back from a worker as a page of tracebacks. A label of -1 is seen by `_Checked`.
            return torch.zeros(3, self._size, self._size, dtype=torch.uint8), -1
        image = torch.from_numpy(decoded).permute(2, 0, 1)
        if key.augmentation != "none":
            image = augment(image[None], key.augmentation, [key.seed])[0]
        return image, int(self._source.labels[key.index])


class _Checked:
    """torch's loader with worker processes. An image that cannot be read ends it with an error that names the image."""

    def __init__(self, pixels: Pixels, keys: list[list[_Key]], device: torch.device, workers: int) -> None:
        self._pixels, self._keys = pixels, keys
        self._loader = DataLoader(
            _Decoded(pixels.source, pixels.size),
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=fast_collate,
            pin_memory=device.type == "cuda",
            # A generator of its own, because torch would draw the seeds of the workers from the model's generator.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_quiet,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for keys, (images, labels) in zip(self._keys, self._loader, strict=True):
            if int(labels.min()) < 0:
                raise self._pixels.unreadable([key.index for key in keys])
            yield images, labels


def _quiet(worker: int) -> None:
    """Let an interrupt end the search and not each worker, which would print a traceback."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unreadable(faults: Sequence[str], count: int) -> DataError:
    shown = ", ".join(faults[:5]) + (", ..." if len(faults) > 5 else "")
    return DataError(f"{len(faults)} of {count} images cannot be read: {shown}; repair or remove them")


def _told(marks: Sequence[Marks], size: int) -> str:
    modes = Counter(mark.mode for mark in marks)
    told = ", ".join(
        f"{count:,} {mode}{f' (byte = {NOT_BYTES[mode]})' if mode in NOT_BYTES else ''}"
        for mode, count in modes.most_common()
    )
    counts = {
        "turned upright by EXIF": sum(mark.orientation != 1 for mark in marks),
        "with an alpha channel, which is dropped": sum(mark.alpha for mark in marks),
        "with more pages or frames, of which the first is read": sum(mark.paged for mark in marks),
    }
    facts = [f"{count:,} {fact}" for fact, count in counts.items() if count]
    peak = max((mark.peak for mark in marks if mark.peak is not None), default=None)
    if peak is not None and peak < _HALF:
        facts.append(f"warning: the largest byte is {peak} of 255, so most levels are lost; scale the values")
    return "; ".join([f"{told}; each to {size}x{size} RGB", *facts])
