"""A tabulated space: the evaluations of all its plans in one Parquet file.

A row is one plan with one seed:

    plan, plan_hash     canonical text and its hash
    seed                seed of the initial weights and of the data order
    state, reason       complete, rejected or failed, and why it is not complete
    fidelity            training epochs
    wall_s              seconds that the evaluation took
    metrics and costs   one column each, under its own name. Empty if the evaluation is not complete

The file's metadata contains one JSON document under the key `nasbench`, with the fields of `TableInfo`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from nasbench.backbones.slot_cache import RecordedSlot
from nasbench.errors import DataError, InputError
from nasbench.library.plan import Plan
from nasbench.library.pretexts import SUPERVISED
from nasbench.tasks.places import table_file

__all__ = [
    "FIXED_COLUMNS",
    "SCHEMA_VERSION",
    "Table",
    "TableInfo",
    "fingerprint_of",
    "read_table",
    "write_table",
]

SCHEMA_VERSION = 1

_KEY = b"nasbench"
FIXED_COLUMNS = ("plan", "plan_hash", "seed", "state", "reason", "fidelity", "wall_s")


class TableInfo(BaseModel):
    """The metadata of a table.

    Attributes:
        schema_version: Version of the file's schema.
        backbone: Name of the backbone.
        task: The task on which plans were trained.
        head: The head that ended the models of a dense task, as an expression. None if the backbone ended them.
        neck: The neck of the hosts of a dense task, as an expression. None without a head.
        learn: How the plans were trained: "supervised", or a pretext.
        space: The space, with the name of every variant. So modules that are registered later are not part of the
            space.
        slots: The slots of the backbone.
        metrics: Names of the metric columns, each with its direction, "maximize" or "minimize".
        metric: The metric by which plans are selected. None if the objectives are only costs.
        costs: Names of the cost columns. Costs are known before training.
        seeds: The seeds with which each plan was evaluated.
        recipe: The training recipe.
        environment: Versions of packages, and the device.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    backbone: str
    task: str
    head: str | None = None
    neck: str | None = None
    learn: str = SUPERVISED
    space: dict[str, Any]
    slots: tuple[RecordedSlot, ...]
    metrics: dict[str, str]
    metric: str | None
    costs: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: dict[str, Any] = {}
    environment: dict[str, Any] = {}


@dataclass(frozen=True)
class Table:
    """A tabulated space.

    Attributes:
        info: Its metadata.
        frame: One row for each plan and seed. The docstring of this file describes the columns.
        name: Name of the table in messages: the path of its file.
    """

    info: TableInfo
    frame: pd.DataFrame
    name: str = "table"

    @cached_property
    def rows(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The rows by plan hash and seed."""
        rows = [{str(name): value for name, value in row.items()} for row in self.frame.to_dict("records")]
        return {(row["plan_hash"], row["seed"]): row for row in rows}

    def row(self, plan: Plan, seed: int) -> dict[str, Any] | None:
        """Return the row of a plan, or None if the plan is not in the table.

        Args:
            plan: The plan.
            seed: Any seed. The seed modulo the number n of seeds in the table, from 0 to n - 1, selects one of them. So
                every seed has a row.
        """
        return self.rows.get((plan.hash, self.info.seeds[seed % len(self.info.seeds)]))

    def costs(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the costs in a row, without empty values."""
        return {name: row[name] for name in self.info.costs if not _empty(row[name])}

    def metrics(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics in a row, without empty values."""
        return {name: float(row[name]) for name in self.info.metrics if not _empty(row[name])}


def read_table(path: str | Path) -> Table:
    """Read a table.

    Raises:
        DataError: If the file does not exist, is not a Parquet file, or was not written by `nasbench tabulate`.
    """
    path = table_file(path)
    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from None
    document = (arrow.schema.metadata or {}).get(_KEY)
    if document is None:
        raise DataError(f"{path} is a Parquet file, but not a table that `nasbench tabulate` wrote")
    info = _info(path, document)
    missing = [name for name in (*FIXED_COLUMNS, *info.metrics, *info.costs) if name not in arrow.column_names]
    if missing:
        raise DataError(f"{path} is damaged: it lacks the columns {', '.join(missing)}")
    return Table(info, arrow.to_pandas(ignore_metadata=True), str(path))


def write_table(path: str | Path, frame: pd.DataFrame, info: TableInfo) -> Table:
    """Write a table atomically, so that the file is never incomplete.

    Args:
        path: The file. Its name ends in `.parquet`.
        frame: The rows.
        info: The metadata.

    Raises:
        InputError: If the file cannot be written.
    """
    path = Path(path)
    columns = [*FIXED_COLUMNS, *info.metrics, *info.costs]
    arrow = pa.Table.from_pandas(frame[columns], preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _KEY: info.model_dump_json().encode()})
    # in the same folder, because a file can be renamed only within one file system
    temporary = path.with_name(f".{path.name}.part")
    try:
        pq.write_table(arrow, temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    return Table(info, frame[columns], str(path))


def fingerprint_of(path: str | Path) -> str:
    """Return the SHA-256 hash of a table's file. It is part of the identity of a run that searches in the table."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _info(path: Path, document: bytes) -> TableInfo:
    try:
        given = json.loads(document)
        if isinstance(given, dict) and given.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema version {given.get('schema_version')}, but this nasbench reads {SCHEMA_VERSION}; "
                "tabulate again, or use the version that wrote it"
            )
        return TableInfo.model_validate(given)
    except (ValueError, ValidationError) as error:
        if isinstance(error, InputError):  # the DataError above is also a ValueError
            raise
        raise DataError(f"{path} has damaged metadata: {str(error).splitlines()[0]}") from None


def _empty(value: Any) -> bool:
    # an empty value of a Parquet column is read as NaN or None, depending on the column's type
    return value is None or bool(pd.isna(value))
