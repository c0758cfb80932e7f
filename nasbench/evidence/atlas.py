"""The atlas: what each module of the library brings, measured on small hosts and data. Reads, checks and writes it.

The rows are in reports/atlas.parquet, which ships with the package. The protocol is in `atlas_protocol`.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.builtin import content_folder
from nasbench.errors import DataError, InputError, UnknownNameError
from nasbench.evidence.atlas_protocol import GROUPS, PROTOCOL, SAME
from nasbench.library.modules import module_spec
from nasbench.library.registry import PROPERTIES, ModuleSpec

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "KEYS",
    "VERDICTS",
    "Atlas",
    "Measured",
    "Unmeasured",
    "atlas_file",
    "check_rows",
    "code_file",
    "code_hash",
    "code_hashes",
    "load_atlas",
    "property_text",
    "read_atlas",
    "rows_of",
    "stale",
    "write_atlas",
]

COLUMNS: dict[str, type] = {
    "module": str, "dims": int, "property": str, "host": str, "data": str, "slots": str, "seeds": int,
    "difference": float, "low": float, "high": float, "verdict": str,
    "control_difference": float, "control_low": float, "control_high": float, "control_verdict": str,
    "params": int, "macs": int, "latency_ratio": float, "protocol": str, "versions": str,
}  # fmt: skip
"""The columns of the atlas, each with its type.

`property` has the declared properties with commas, or "none". `slots` is "same" for every stage of the host, or the
name of one slot. `difference` is the module minus the bare host, positive if better, with its 95 % interval from `low`
to `high`. The columns `control_...` compare it with a plain block of equal cost. They are NaN without one, and
`control_verdict` is "" if the costs are too different. `params` and `macs` are those of the whole model.
`latency_ratio` is NaN if it was not measured. `versions` is JSON: the versions and the device of the run, and the
hashes of the module's code and of the data.
"""

KEYS = ("module", "host", "data", "slots")
"""The columns that name a row."""

VERDICTS = ("BETTER", "WORSE", "NOT DECIDED")

_FEWEST_SEEDS = 2  # one seed has no interval
_OF_ROW = ("module", "data")  # the hashes in `versions`
_VERSIONS = ("nasbench", "python", "torch", "timm", "device")
_INTERVALS = (("low", "difference", "high"), ("control_low", "control_difference", "control_high"))
_MOST_TOLD = 10
_EXTRA = b"nasbench.atlas"  # key of what is not in rows, in the metadata of the file


@dataclass(frozen=True)
class Measured:
    """The bare host of a group, which all its rows are compared with.

    Attributes:
        host: The backbone.
        data: Name of the data.
        metric: The metric of the differences.
        direction: "maximize" or "minimize".
        bare: The mean of the metric over seeds.
        params: Its parameters.
        macs: Its multiply-adds for one item.
        items: Number of validation items.
    """

    host: str
    data: str
    metric: str
    direction: str
    bare: float
    params: int
    macs: int
    items: int


@dataclass(frozen=True)
class Unmeasured:
    """A plan that has no row.

    Attributes:
        module: The module.
        host: The backbone.
        data: Name of the data.
        slots: As in the column `slots`.
        reason: Why it could not be measured.
    """

    module: str
    host: str
    data: str
    slots: str
    reason: str


@dataclass(frozen=True, eq=False)
class Atlas:
    """The content of an atlas file.

    Attributes:
        rows: The rows, with the columns `COLUMNS`.
        groups: The bare host of each group that has rows.
        unmeasured: The plans without a row.
    """

    rows: pd.DataFrame
    groups: tuple[Measured, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()


def load_atlas() -> pd.DataFrame:
    """Return the atlas that ships with nasbench: what each module brings on small hosts and data, with intervals.

    Returns:
        One row for each module, host, data and place in the host. The columns are those of `COLUMNS`.

    Raises:
        DataError: If the file is missing or damaged.

    Example:
        >>> import nasbench as nb
        >>> atlas = nb.load_atlas()
        >>> {"module", "difference", "low", "high", "verdict"} <= set(atlas.columns)
        True
    """
    return read_atlas(atlas_file()).rows


def atlas_file() -> Path:
    """Return the path of the atlas that ships with nasbench."""
    return content_folder("reports") / "atlas.parquet"


def read_atlas(file: Path) -> Atlas:
    """Read an atlas file.

    Raises:
        DataError: If the file is missing or is not an atlas.
    """
    import pandas as pd

    table = _table(file)
    extra = json.loads((table.schema.metadata or {}).get(_EXTRA, b"{}"))
    rows = pd.DataFrame(table.to_pydict(), columns=list(COLUMNS)).astype(COLUMNS)
    return Atlas(
        rows,
        tuple(Measured(**each) for each in extra.get("groups", ())),
        tuple(Unmeasured(**each) for each in extra.get("unmeasured", ())),
    )


def rows_of(module: str, file: Path | None = None) -> list[dict[str, Any]]:
    """Return the rows of one module as plain data, without importing pandas. Empty if the atlas has none.

    Raises:
        DataError: If the file is missing or damaged.
    """
    table = _table(atlas_file() if file is None else file)
    places = [place for place, name in enumerate(table.column("module").to_pylist()) if name == module]
    rows: list[dict[str, Any]] = [row for place in places for row in table.slice(place, 1).to_pylist()]
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]


def write_atlas(atlas: Atlas, file: Path) -> None:
    """Write an atlas file. Equal atlases give equal files.

    Raises:
        InputError: If rows do not fit (`check_rows`).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_rows(atlas.rows)
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    rows = atlas.rows.sort_values(list(KEYS), kind="stable")
    extra = {"groups": [asdict(each) for each in atlas.groups], "unmeasured": [asdict(e) for e in atlas.unmeasured]}
    table = pa.table({name: pa.array(rows[name].tolist(), schema.field(name).type) for name in COLUMNS}, schema)
    temporary = file.with_name(f".{file.name}")
    pq.write_table(table.replace_schema_metadata({_EXTRA: json.dumps(extra).encode()}), temporary, compression="zstd")
    temporary.replace(file)


def _table(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read(use_threads=False)  # `pq.read_table` imports pandas
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read the atlas {file}: {str(error).splitlines()[0]}; reinstall nasbench") from None
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise DataError(f"{file} is not an atlas: it has no column {', '.join(missing)}")
    return table


# -- what a module is ------------------------------------------------------------------------------------------------


def property_text(spec: ModuleSpec) -> str:
    """Return the declared properties of a module with commas, or "none"."""
    return ", ".join(name for name in PROPERTIES if name in spec.properties) or "none"


def code_hashes(names: Iterable[str]) -> dict[str, str]:
    """Return the `code_hash` of each module, by name."""
    return {name: code_hash(Path(module_spec(name).origin.rpartition(":")[0])) for name in names}


def code_file(run: Path) -> Path:
    """Return the file beside a run folder that has the code hash of each module, from the time of the training."""
    return run.with_name(f"{run.name}.code.json")


def code_hash(file: Path) -> str:
    """Return a hash of the code of a Python file, without its comments and docstrings.

    A better explanation of a module does not make its figures old, a change of its code does.
    """
    text = file.read_text(encoding="utf-8")
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    code = [line.rstrip() for line in lines if line.strip()]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


# -- the check -------------------------------------------------------------------------------------------------------


def check_rows(frame: pd.DataFrame) -> None:
    """Check that rows fit the atlas: columns, protocol, groups, versions, hashes and numbers.

    Raises:
        InputError: If a row does not fit. The message names each row and says what is wrong with it.
    """
    faults = list(_column_faults(frame)) or [*_row_faults(frame), *_group_faults(frame)]
    if faults:
        more = f"\n  and {len(faults) - _MOST_TOLD} more" if len(faults) > _MOST_TOLD else ""
        told = "\n  ".join(faults[:_MOST_TOLD])
        raise InputError(
            f"these rows do not fit the atlas:\n  {told}{more}\n`scripts/atlas collect` makes rows that fit"
        )


def _column_faults(frame: pd.DataFrame) -> Iterator[str]:
    from pandas.api import types

    if missing := [name for name in COLUMNS if name not in frame]:
        yield f"columns that are missing: {', '.join(missing)}"
    if strange := [str(name) for name in frame if name not in COLUMNS]:
        yield f"columns that the atlas does not have: {', '.join(strange)}"
    fits = {str: types.is_string_dtype, int: types.is_integer_dtype, float: types.is_float_dtype}
    for name, kind in COLUMNS.items():
        if name in frame and not fits[kind](frame[name]):
            yield f"column {name} has the type {frame[name].dtype}, expected {kind.__name__}"


def _row_faults(frame: pd.DataFrame) -> Iterator[str]:
    hashes: dict[str, str] = {}
    for row in frame.to_dict("records"):
        for fault in _faults_of({str(name): value for name, value in row.items()}, hashes):
            yield f"{row['module']} on {row['host']}, {row['data']}, {row['slots']}: {fault}"


def _group_faults(frame: pd.DataFrame) -> Iterator[str]:
    for key in frame.loc[frame.duplicated(list(KEYS)), list(KEYS)].itertuples(index=False):
        yield f"{key[0]} on {key[1]}, {key[2]}, {key[3]}: there are several such rows"
    for (host, data), rows in frame.groupby(["host", "data"], sort=True):
        kinds = {tuple(sorted(_shared(text).items())) for text in rows["versions"].unique()}
        if len(kinds) > 1:
            yield f"{host}, {data}: rows of one group come from one run, and these have {len(kinds)} sets of versions"


def _faults_of(row: Mapping[str, Any], hashes: dict[str, str]) -> Iterator[str]:
    if row["protocol"] != PROTOCOL:
        yield f"protocol {row['protocol']!r}, expected {PROTOCOL!r}"
    group = next((g for g in GROUPS if (g.host, g.data) == (row["host"], row["data"])), None)
    if group is None:
        yield f"no such group; known: {', '.join(g.name for g in GROUPS)}"
    elif group.dims != row["dims"]:
        yield f"dims {row['dims']}, expected {group.dims}"
    yield from _module_faults(row)
    yield from _version_faults(row, None if group is None else group.sha256, hashes)
    yield from _number_faults(row)


def _module_faults(row: Mapping[str, Any]) -> Iterator[str]:
    try:
        spec = module_spec(row["module"])
    except UnknownNameError as error:
        yield str(error)
        return
    if spec.kind != "module" or row["dims"] not in spec.dims:
        yield f"it is a {spec.kind} for dims {', '.join(map(str, spec.dims))}, not a module for dims {row['dims']}"
    if row["property"] != property_text(spec):
        yield f"property {row['property']!r}, but the module declares {property_text(spec)!r}"
    if not (row["slots"] == SAME or re.fullmatch(r"[a-z]\w*", row["slots"])):
        yield f"slots {row['slots']!r}, expected {SAME!r} or the name of one slot"


def _version_faults(row: Mapping[str, Any], sha256: str | None, hashes: dict[str, str]) -> Iterator[str]:
    versions = _parsed(row["versions"])
    if missing := [name for name in (*_VERSIONS, *_OF_ROW) if not versions.get(name)]:
        yield f"versions lack {', '.join(missing)}"
        return
    if sha256 is not None and versions["data"] != sha256:
        yield f"the data has the hash {versions['data'][:12]}, expected {sha256[:12]}"
    name = row["module"]
    try:
        today = hashes.setdefault(name, code_hashes([name])[name])
    except UnknownNameError:
        return  # told already
    if versions["module"] != today:
        yield (
            f"the code of the module has the hash {versions['module']}, and today {today}; it was changed after the "
            "measurement, so measure it again, or drop the row by `scripts/atlas collect`"
        )


def _number_faults(row: Mapping[str, Any]) -> Iterator[str]:
    if row["seeds"] < _FEWEST_SEEDS:
        yield f"{row['seeds']} seeds, expected at least {_FEWEST_SEEDS}, because one has no interval"
    for names, needed in zip(_INTERVALS, (True, False), strict=True):
        low, value, high = (row[name] for name in names)
        if not needed and math.isnan(value):
            continue
        if not (all(map(math.isfinite, (low, value, high))) and low <= value <= high):
            yield f"{names[1]} {value} with an interval from {low} to {high}"
    if row["verdict"] not in VERDICTS:
        yield f"verdict {row['verdict']!r}, expected {', '.join(VERDICTS)}"
    elif row["verdict"] == "WORSE" and not row["high"] < 0:  # every WORSE needs its own interval (verdicts.md)
        yield f"WORSE with an interval up to {row['high']}"
    elif row["verdict"] == "BETTER" and not row["difference"] > 0:
        yield f"BETTER with a difference of {row['difference']}"
    if row["control_verdict"] not in ("", *VERDICTS):
        yield f"control_verdict {row['control_verdict']!r}, expected {', '.join(VERDICTS)} or nothing"
    elif row["control_verdict"] and math.isnan(row["control_difference"]):
        yield f"control_verdict {row['control_verdict']} without a control_difference"
    if row["params"] <= 0 or row["macs"] <= 0:
        yield f"params {row['params']} and macs {row['macs']}, expected positive numbers"
    if not (math.isnan(row["latency_ratio"]) or 0 < row["latency_ratio"] < math.inf):
        yield f"latency_ratio {row['latency_ratio']}, expected a positive number or none"


def _parsed(versions: str) -> dict[str, str]:
    try:
        parsed = json.loads(versions)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _shared(versions: str) -> dict[str, str]:
    """Return the versions of a row without what is the module's own."""
    return {key: value for key, value in _parsed(versions).items() if key != "module"}


def stale(frame: pd.DataFrame) -> Sequence[bool]:
    """Return for each row whether the code of its module was changed after the measurement, or is gone."""
    today: dict[str, str] = {}
    for name in frame["module"].unique():
        try:
            today |= code_hashes([name])
        except UnknownNameError:
            continue
    return [_parsed(v).get("module") != today.get(m) for m, v in zip(frame["module"], frame["versions"], strict=True)]
