"""The folder of a run: its files, and how items, weights and latency samples are stored in it.

config.yaml        the resolved settings, the origin of each, and the run's identity
environment.json   versions, device, git commit, seeds
data.json          the task's description of the data that it read
plugins/           copies of the Python files that the search loaded
trust.json         the tag by which the user who made the run recognises it on the same machine
journal.log        the Optuna journal, to which each evaluation is written first
trials.jsonl       one line per evaluation       } views, rebuilt from the journal
trials.csv, front.csv                            }
latency/           raw samples of each latency measurement
items/             the metric of each validation item, for each trained plan and seed; for paired comparisons
models/            weights of trial N, in trial-N.safetensors
full/              plans trained for longer after the search, in a folder for each number of epochs
test.json          metrics on the test split, one entry for each plan
figures/, tables/, report.html   written by nasbench.report

Anybody can have made a run folder. Only `RunFolder.check` decides whether the files in it may be opened.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nasbench.errors import InputError, RunError
from nasbench.files import FileLock, append, copy_file, is_locked, read_json, write_text
from nasbench.text import csv_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["RunFolder"]

_T = TypeVar("_T")

_OURS = (".lock",)
"""Files that an empty folder may contain. The lock is created before the run."""

_PARTS = frozenset(
    {
        *("config.yaml", "environment.json", "data.json", "trust.json", "test.json", "journal.log", "journal.log.lock"),
        *("trials.jsonl", "trials.csv", "front.csv", "report.html", "logged.jsonl"),
        *("plugins", "latency", "items", "models", "full", "figures", "tables", "tensorboard"),
    }
)
"""Names of the files and folders of a run, without hidden ones. Other files in the folder are never opened."""

_LATENCIES = {
    "profile": "the state of the machine in the search's measurement of latency",
    "front": "the measured latency of the front",
    "slots": "the measured latency slot by slot",
}
"""What is left out if the latest latency measurement of a kind is damaged."""

_HASH = re.compile(r"[0-9a-f]{16}\Z")
_MAX_ITEMS_BYTES = 1_000_000_000
"""Largest file of items that is read, in bytes: 125 million validation items."""


class RunFolder:
    """The files of a run.

    Args:
        path: The folder. It need not exist yet.

    Attributes:
        damaged: What is left out of this run, and why, by damaged file (`part`). It has the files read so far.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damaged: dict[Path, tuple[str, RunError]] = {}
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.data = self.path / "data.json"
        self.plugins = self.path / "plugins"
        self.trust = self.path / "trust.json"
        self.journal = self.path / "journal.log"
        self.logged = self.path / "logged.jsonl"
        self.test_metrics = self.path / "test.json"
        self.figures = self.path / "figures"
        self.tables = self.path / "tables"
        self.report = self.path / "report.html"

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.name

    @property
    def is_run(self) -> bool:
        """Whether the folder contains a run. `check` says whether the run may be read."""
        return os.path.lexists(self.config)

    @property
    def is_free(self) -> bool:
        """Whether a new run can be created here: the path does not exist, or is an empty folder."""
        return not self.path.exists() or (self.path.is_dir() and all(p.name in _OURS for p in self.path.iterdir()))

    def check_place(self) -> None:
        """Check that a run is here, or that a new run can be created here. A search does this before any work.

        Raises:
            RunError: If the path is a file, is below a file, or is a folder with something else in it.
        """
        if self.is_run:
            return
        above = next((parent for parent in self.path.parents if os.path.lexists(parent)), self.path.parent)
        if not above.is_dir():
            raise RunError(f"cannot write {self.path}: {above} is not a folder; choose another --out")
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a run folder; choose another --out")
        if not self.is_free:
            raise RunError(f"{self.path} exists and is not a run folder; choose another --out")

    def check(self) -> None:
        """Check that the run contains no link that leads out of its folder, and no pipe, device or socket.

        This check is made before a run is read, and again before something is written into its folder.

        Raises:
            RunError: If the run contains such a file or link. The message names it.
        """
        root = os.path.realpath(self.path)
        try:
            for entry in _entries(self.path, root):
                place = os.path.relpath(entry.path, self.path)
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if os.path.commonpath([root, target]) != root:
                        raise RunError(
                            f"{place} in {self.path} is a link that leads out of the run folder, so the run is not "
                            "opened; replace the link with a copy of the file"
                        )
                if not (entry.is_file() or entry.is_dir()):
                    raise RunError(f"{place} in {self.path} is not a regular file, so the run is not opened")
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from None

    def part(self, file: Path, what: str, read: Callable[[], _T]) -> _T | None:
        """Return what a file contains without which the run can be read. None if it does not exist or is damaged.

        This is the only way to read such a file for results. A damaged file is recorded in `damaged`, so that
        `nasbench.runs.damage` can name it.

        Args:
            file: The file.
            what: What is left out if it is damaged, as a noun phrase.
            read: Reads the file, and raises a `RunError` if it is damaged.
        """
        if not file.is_file():
            return None
        try:
            content = read()
        except RunError as error:
            self.damaged[file] = what, error
            return None
        self.damaged.pop(file, None)
        return content

    def copy_to(self, path: str | Path) -> None:
        """Copy the run into a folder that does not exist or is empty. The run itself is only read.

        Locks and other hidden files are not copied. A link within the run folder becomes a copy of its target.

        Raises:
            InputError: If `path` is not a path.
            RunError: If `check` raises it, if the new folder contains something or is inside a run folder, or if a file
                cannot be read or written. A copy that could not be completed is removed.
        """
        if not isinstance(path, (str, os.PathLike)) or Path(path) == Path():
            raise InputError(f"a run is copied into a new folder; got {path!r} instead of its name")
        self.check()
        target = RunFolder(path)
        root = os.path.realpath(self.path)
        if fault := _not_free(target):
            raise RunError(f"{path} {fault}; a run is copied only into a new or empty folder, so choose another --out")
        try:
            target.path.mkdir(parents=True, exist_ok=True)
            # A search that is running adds a trial to the journal before it adds it to the views. So the copied journal
            # has every trial of the copied views only if it is copied after them. config.yaml is last, because without
            # it, a folder is not a run.
            last = ("journal.log", "config.yaml")
            places = [os.path.relpath(entry.path, self.path) for entry in _entries(self.path, root)]
            for place in sorted(places, key=lambda place: last.index(place) if place in last else -1):
                self._copy_entry(place, target.path / place)
        except BaseException as error:
            shutil.rmtree(target.path, ignore_errors=True)
            if isinstance(error, OSError):
                place = f" ({error.filename})" if error.filename else ""
                raise RunError(f"cannot copy {self.path} to {path}: {error.strerror}{place}") from None
            raise

    def _copy_entry(self, place: str, target: Path) -> None:
        if any(part.startswith(".") for part in Path(place).parts) or place == f"{self.journal.name}.lock":
            return
        source = self.path / place
        if source.is_dir():
            target.mkdir()
            return
        with contextlib.suppress(FileNotFoundError):  # a search that is running has removed the weights of a trial
            copy_file(os.path.realpath(source), target)

    def lock(self) -> FileLock:
        """Return the lock that a process must hold while it searches in this folder.

        Raises:
            RunError: If `check` raises it. The check is needed, because taking the lock creates a file.
        """
        self.check()
        return FileLock(self.path / ".lock", signed=True)

    @property
    def is_searched(self) -> bool:
        """Whether a process is searching in this folder. Asking creates no file."""
        # The kernel releases the lock of a process that died. So if the lock is held, a search is running.
        return is_locked(self.path / ".lock")

    @cached_property
    def driver(self) -> str:
        """Name of the driver that searches in this folder, among all drivers of a shared study.

        A resumed search has the same name.
        """
        file = self.path / ".driver"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex)
        # Host and path are part of the name. So a search in a copy of the folder is another driver, and does not change
        # the trials of the original.
        where = f"{socket.gethostname()} {self.path.resolve()} {file.read_text()}"
        return hashlib.sha256(where.encode()).hexdigest()[:16]

    # -- views of the trials -----------------------------------------------------------------------------------

    def append_trial(self, row: Mapping[str, Any]) -> None:
        """Append a line to trials.jsonl."""
        # Not durable: the write does not wait for the disk, because a view can be rebuilt from the journal.
        append(self.path / "trials.jsonl", _json_line(row).encode(), durable=False)

    def write_views(self, rows: Iterable[Mapping[str, Any]], trials: pd.DataFrame, front: pd.DataFrame) -> None:
        """Replace trials.jsonl, trials.csv and front.csv."""
        write_text(self.path / "trials.jsonl", "".join(map(_json_line, rows)))
        write_text(self.path / "trials.csv", csv_text(trials))
        write_text(self.path / "front.csv", csv_text(front))

    def shown_trials(self) -> set[tuple[str, int]]:
        """Return the plan hash and seed of each evaluation that the views show. Empty if there are no views.

        If the journal contains fewer evaluations, it was cut or removed.
        """
        lines, table = self.path / "trials.jsonl", self.path / "trials.csv"
        rows: list[Mapping[str, Any]] = []
        # What cannot be read was not written by a search, so there is nothing to compare.
        if lines.is_file():
            with lines.open("rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError, RecursionError):
                        rows.append(json.loads(line))
        if table.is_file():
            with table.open(encoding="utf-8", errors="replace", newline="") as text, contextlib.suppress(csv.Error):
                rows += csv.DictReader(text)
        shown = set()
        for row in rows:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                shown.add((str(row["plan_hash"]), int(row["seed"])))
        return shown

    # -- the metric per validation item --------------------------------------------------------------------------

    def items_file(self, plan_hash: str, seed: int) -> Path:
        """Return the path of the file with the items of a plan and seed. The file need not exist.

        Raises:
            RunError: If `plan_hash` has not the form of a hash. Any other text of a record must not become part of a
                path.
        """
        if not _HASH.match(plan_hash):
            raise RunError(f"{plan_hash[:40]!r} is not the hash of a plan")
        return self.path / "items" / f"{plan_hash}-{seed}.npy"

    def save_items(self, plan_hash: str, seed: int, items: NDArray[np.float64] | None) -> None:
        """Store the metric of each validation item, shape `(N,)`. Does nothing if `items` is None."""
        import numpy as np

        if items is not None:
            file = self.items_file(plan_hash, seed)
            file.parent.mkdir(exist_ok=True)
            np.save(file, items, allow_pickle=False)

    def load_items(self, plan_hash: str, seed: int, count: int | None = None) -> NDArray[np.float64] | None:
        """Return the metric of each validation item, shape `(N,)`, of a plan and seed.

        None if it was not stored, or if the file is damaged (`damaged`). If `count` is given, a file with another
        number of items is damaged.
        """
        file = self.items_file(plan_hash, seed)
        what = "the values of single validation items of a training"
        return self.part(file, what, lambda: self._read_items(file, count))

    def _read_items(self, file: Path, count: int | None) -> NDArray[np.float64]:
        import numpy as np

        if file.stat().st_size > _MAX_ITEMS_BYTES:
            raise RunError(f"{file} is damaged: it has {file.stat().st_size:,} bytes")
        try:
            with file.open("rb") as opened:
                # Not `np.load`, because it also opens archives. No pickle, because a pickle of a foreign run can
                # execute code.
                items = np.lib.format.read_array(opened, allow_pickle=False).astype(float)
        except (ValueError, TypeError, EOFError, OSError, MemoryError) as error:
            raise RunError(f"{file} is damaged: {str(error)[:200]}") from None
        if items.ndim != 1 or not np.isfinite(items).all():
            raise RunError(f"{file} is damaged: it must contain one finite number for each item")
        if count not in (None, len(items)):
            raise RunError(f"{file} is damaged: it has {len(items):,} items, but other trainings have {count:,}")
        return items

    # -- weights -------------------------------------------------------------------------------------------------

    def weights_file(self, number: int) -> Path:
        """Return the path of the file for the weights of a trial. The file need not exist."""
        return self.path / "models" / f"trial-{number}.safetensors"

    @property
    def stored_weights(self) -> set[int]:
        """Numbers of the trials whose weights are stored."""
        return set(_numbered(self.path / "models", "trial", ".safetensors"))

    def weights_seed(self, number: int) -> int | None:
        """Return the seed with which the stored weights of a trial were trained.

        None if the file does not contain the seed. This file was written by version 0.1.0, and its seed is the first
        seed of the run.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.weights_file(number), "numpy") as file:
                seed = (file.metadata() or {}).get("seed", "")
        except (SafetensorError, OSError):  # `load_weights` reports what is wrong with the file
            return None
        return int(seed) if seed.isdecimal() else None

    def save_weights(self, number: int, weights: bytes) -> None:
        """Store the weights of a trial, in the safetensors format."""
        file = self.weights_file(number)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)

    def remove_weights(self, but: Collection[int]) -> None:
        """Remove the stored weights of all trials except these."""
        for number in self.stored_weights.difference(but):
            self.weights_file(number).unlink()

    def load_weights(self, number: int, model: nn.Module) -> nn.Module:
        """Load the stored weights of a trial into a model built from its plan, and return the model.

        Raises:
            RunError: If the weights were not stored, are damaged, or belong to another model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        file = self.weights_file(number)
        if not file.is_file():
            raise RunError(
                f"the weights of trial {number} were not stored (stored: {sorted(self.stored_weights) or 'none'}); "
                "--keep all stores the weights of every trial"
            )
        try:
            load_model(model, str(file))
        except (SafetensorError, RuntimeError, OSError, ValueError) as error:
            raise RunError(f"{file} is damaged, or contains another model: {str(error)[:200]}") from None
        return model

    def full_training(self, epochs: int) -> Path:
        """Return the folder for plans that are trained for this number of epochs after the search."""
        return self.path / "full" / f"epochs-{epochs}"

    # -- latency -------------------------------------------------------------------------------------------------

    def latency_files(self, kind: str) -> list[Path]:
        """Return the files of one kind of latency measurement ("profile", "front" or "slots"), oldest first."""
        files = _numbered(self.path / "latency", kind, ".json")
        return [files[number] for number in sorted(files)]  # by number, because by name 10 would come before 2

    def latest_latency(self, kind: str, view: Callable[[dict[str, Any]], _T]) -> _T | None:
        """Return what `view` makes of the latest stored latency measurement of a kind.

        None if there is none, or if the file is damaged (`damaged`). If `view` does not find what it needs, the file is
        damaged.
        """
        files = self.latency_files(kind)
        if not files:
            return None

        def read() -> _T:
            document = read_json(files[-1], "latency measurement", RunError)
            if not isinstance(document, dict):
                raise RunError(f"{files[-1]} is damaged: it does not contain a mapping")
            try:
                return view(document)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
                raise RunError(f"{files[-1]} is damaged: {type(error).__name__} {str(error)[:100]}") from None

        return self.part(files[-1], _LATENCIES[kind], read)

    def save_latency(self, kind: str, document: Mapping[str, Any]) -> Path:
        """Store a latency measurement in a new file beside the earlier ones of its kind, and return its path.

        Raises:
            OSError: If the file cannot be written.
        """
        files = self.latency_files(kind)
        # One more than the last number, and not the count of files: if a file was removed, the count is a number in
        # use.
        number = int(files[-1].stem.split("-")[1]) + 1 if files else 0
        file = self.path / "latency" / f"{kind}-{number}.json"
        file.parent.mkdir(exist_ok=True)
        write_text(file, json.dumps(document, ensure_ascii=False, allow_nan=False))
        return file


def _entries(folder: Path, root: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files and folders of a run, at every depth. Yields nothing if `folder` does not exist."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as top:
        waiting = [entry for entry in top if entry.name in _PARTS or entry.name.startswith(".")]
    seen = {root}  # without it, a link to a folder that contains the link would be followed without end
    while waiting:
        entry = waiting.pop()
        yield entry
        if entry.is_dir() and (place := os.path.realpath(entry.path)) not in seen:
            seen.add(place)
            with os.scandir(entry.path) as inside:
                waiting.extend(inside)


def _not_free(target: RunFolder) -> str:
    """Return why a run cannot be copied to a path. "" if it can."""
    path = target.path
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, which does not exist"
    if path.exists() and not path.is_dir():
        return "is a file"
    if not target.is_free:
        return "contains a run; to work on it, give it as the run" if target.is_run else "exists and is not empty"
    around = next((above for above in Path(os.path.realpath(path)).parents if RunFolder(above).is_run), None)
    return "" if around is None else f"is inside the run folder {around}"


def _numbered(folder: Path, name: str, ending: str) -> dict[int, Path]:
    """Return the files named `name-N` with an ending, by their number N. Files with other names are left out."""
    pattern = re.compile(rf"{re.escape(name)}-(\d{{1,9}}){re.escape(ending)}\Z")
    found = ((pattern.match(file.name), file) for file in folder.glob(f"{name}-*{ending}"))
    return {int(match.group(1)): file for match, file in found if match}


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
