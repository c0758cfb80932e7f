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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from nasbench.builtin import content_folder
from nasbench.errors import DataError, InputError, RunError, UnknownNameError
from nasbench.evidence.atlas_protocol import GROUPS, PASSES, PROTOCOL, SAME, Group
from nasbench.files import read_json
from nasbench.library.modules import module_spec, module_specs
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
    "check_atlas",
    "check_rows",
    "code_file",
    "code_hash",
    "code_hashes",
    "judged_by",
    "library_modules",
    "load_atlas",
    "places_without_row",
    "property_text",
    "read_atlas",
    "read_code",
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
`latency_ratio` is NaN if it was not measured. `versions` is JSON: the versions and the device of the run, the hashes of
the module's code and of the data, and in `judged` the hash of the code that judged the row (`judged_by`).
"""

KEYS = ("module", "host", "data", "slots")
"""The columns that name a row."""

VERDICTS = ("BETTER", "WORSE", "NOT DECIDED")

_OF_ROW = ("module", "data", "judged")  # the hashes in `versions`
_NUMBERED = ("nasbench", "python", "torch", "timm")
_VERSIONS = (*_NUMBERED, "device")
_INTERVALS = (("low", "difference", "high"), ("control_low", "control_difference", "control_high"))
_SKEW = 1e-6  # largest distance of a difference from the middle of its interval, as a share of its width
_MOST_TOLD = 10
_T = TypeVar("_T")
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
    try:
        extra = json.loads((table.schema.metadata or {}).get(_EXTRA, b"{}"))
        groups, unmeasured = _listed(extra, "groups", Measured), _listed(extra, "unmeasured", Unmeasured)
    except ValueError as error:
        raise DataError(f"the metadata of {file} is not that of an atlas: {error}; {_way_on(file)}") from None
    return Atlas(pd.DataFrame(table.to_pydict(), columns=list(COLUMNS)).astype(COLUMNS), groups, unmeasured)


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
        raise DataError(f"cannot read the atlas {file}: {str(error).splitlines()[0]}; {_way_on(file)}") from None
    if faults := list(_schema_faults(table)):
        raise DataError(f"{file} is not an atlas: {'; '.join(faults)}; {_way_on(file)}")
    return table


def _way_on(file: Path) -> str:
    return "reinstall nasbench" if file == atlas_file() else "`scripts/atlas collect` makes such a file"


def _schema_faults(table: pa.Table) -> Iterator[str]:
    """Yield what is wrong with the columns of a file, before their types are converted."""
    from pyarrow import types

    if missing := [name for name in COLUMNS if name not in table.column_names]:
        yield f"it has no column {', '.join(missing)}"
    if strange := [name for name in table.column_names if name not in COLUMNS]:
        yield f"an atlas has no column {', '.join(strange)}"
    if len({*table.column_names}) < len(table.column_names):
        yield "it has a column twice"
        return
    for field in table.schema:
        kind = COLUMNS.get(field.name)
        texts = types.is_string(field.type) or types.is_large_string(field.type)
        fits = {str: texts, int: types.is_int64(field.type), float: types.is_float64(field.type)}
        if kind is not None and not fits[kind]:
            yield f"column {field.name} has the type {field.type}, expected {kind.__name__}"
        elif kind in (str, int) and table.column(field.name).null_count:  # an empty float is NaN
            yield f"column {field.name} has empty values"


def _listed(extra: Any, name: str, kind: type[_T]) -> tuple[_T, ...]:
    """Return the entries of the metadata as instances of a dataclass.

    Raises:
        ValueError: If a field is missing, unknown, or of another type.
    """
    given = extra.get(name, []) if isinstance(extra, dict) else None
    if not isinstance(given, list):
        raise ValueError(f"{name} is no list")
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for each in given:
        if not isinstance(each, dict) or set(each) != names:
            raise ValueError(f"an entry of {name} has not exactly the fields {', '.join(sorted(names))}")
        if wrong := [key for key, value in each.items() if type(value) is not hints[key]]:
            raise ValueError(f"in an entry of {name}, {wrong[0]} is {each[wrong[0]]!r}")
    return tuple(kind(**each) for each in given)


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


def read_code(run: Path) -> dict[str, str]:
    """Return the code hash of each module from the time of the training (`code_file`).

    Raises:
        RunError: If the file is missing or damaged.
    """
    file = code_file(run)
    if not file.is_file():
        raise RunError(
            f"no file at {file}, which has the hashes of the modules' code from the time of the training; "
            "`scripts/atlas run` writes it"
        )
    hashes = read_json(file, "record of the code", RunError)
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise RunError(f"{file} is no record of the code: expected a hash for each name of a module; restore the file")
    return hashes


def judged_by() -> str:
    """Return a hash of the code of nasbench/evidence, which judges rows when they are collected.

    Verdicts are computed anew from the trainings of a run, perhaps by later code than that of the training.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256("\n".join(f"{file.name} {code_hash(file)}" for file in files).encode()).hexdigest()[:16]


def library_modules(dims: int) -> set[str]:
    """Return the modules for these dims that ship with nasbench, without those of plug-ins."""
    folder = content_folder("modules")
    return {spec.name for spec in module_specs(dims=dims, kind="module") if Path(spec.origin).is_relative_to(folder)}


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


def check_atlas(atlas: Atlas) -> None:
    """Check the rows (`check_rows`), and that each group has its bare host and a row or a reason for each module.

    Raises:
        InputError: If something does not fit. The message names it.
    """
    check_rows(atlas.rows)
    rows = {(str(host), str(data)) for host, data in zip(atlas.rows["host"], atlas.rows["data"], strict=True)}
    _refuse(
        [
            *(f"{host}, {data}: the bare host of these rows is not told" for host, data in sorted(rows - _bare(atlas))),
            *(f"{host}, {data}: a bare host without rows" for host, data in sorted(_bare(atlas) - rows)),
            *(
                f"{module} on {', '.join(group)}, {slots}: neither a row nor a reason why there is none"
                for group, module, slots in places_without_row(atlas)
            ),
        ]
    )


def _bare(atlas: Atlas) -> set[tuple[str, str]]:
    return {(each.host, each.data) for each in atlas.groups}


def places_without_row(atlas: Atlas) -> list[tuple[tuple[str, str], str, str]]:
    """Return where a module of the library has neither a row nor a reason: (host, data), module and slots.

    Single stages count if the group has rows of single stages.
    """
    names = ["host", "data", "module", "slots"]
    there = set(atlas.rows[names].itertuples(index=False, name=None))
    there |= {(each.host, each.data, each.module, each.slots) for each in atlas.unmeasured}
    found = []
    for group in GROUPS:
        own = atlas.rows[(atlas.rows["host"] == group.host) & (atlas.rows["data"] == group.data)]
        if own.empty and (group.host, group.data) not in _bare(atlas):
            continue
        places = (SAME, *group.stages) if (own["slots"] != SAME).any() else (SAME,)
        found += [
            ((group.host, group.data), module, slots)
            for slots in places
            for module in sorted(library_modules(group.dims))
            if (group.host, group.data, module, slots) not in there
        ]
    return found


def check_rows(frame: pd.DataFrame) -> None:
    """Check that rows fit the atlas: columns, protocol, groups, versions, hashes and numbers.

    Raises:
        InputError: If a row does not fit. The message names each row and says what is wrong with it.
    """
    _refuse(list(_column_faults(frame)) or [*_row_faults(frame), *_group_faults(frame)])


def _refuse(faults: Sequence[str]) -> None:
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
        kinds = {tuple(sorted(map(str, _shared(text).items()))) for text in rows["versions"].unique()}
        if len(kinds) > 1:
            yield f"{host}, {data}: rows of one group come from one run, and these have {len(kinds)} sets of versions"
        if len(seeds := sorted({*rows["seeds"]})) > 1:
            yield f"{host}, {data}: rows of one group have equal numbers of seeds, and these have {_either(seeds)}"


def _faults_of(row: Mapping[str, Any], hashes: dict[str, str]) -> Iterator[str]:
    if row["protocol"] != PROTOCOL:
        yield f"protocol {row['protocol']!r}, expected {PROTOCOL!r}"
    group = next((g for g in GROUPS if (g.host, g.data) == (row["host"], row["data"])), None)
    if group is None:
        yield f"no such group; known: {', '.join(g.name for g in GROUPS)}"
    elif group.dims != row["dims"]:
        yield f"dims {row['dims']}, expected {group.dims}"
    yield from _module_faults(row, group)
    yield from _version_faults(row, group, hashes)
    yield from _number_faults(row)


def _module_faults(row: Mapping[str, Any], group: Group | None) -> Iterator[str]:
    try:
        spec = module_spec(row["module"])
    except UnknownNameError as error:
        yield str(error)
        return
    if spec.kind != "module" or row["dims"] not in spec.dims:
        yield f"it is a {spec.kind} for dims {', '.join(map(str, spec.dims))}, not a module for dims {row['dims']}"
    if row["property"] != property_text(spec):
        yield f"property {row['property']!r}, but the module declares {property_text(spec)!r}"
    if group is not None and row["slots"] not in (SAME, *group.stages):
        yield f"slots {row['slots']!r}, expected {_either([SAME, *group.stages])}"


def _either(values: Iterable[Any]) -> str:
    return " or ".join(map(str, values))


def _version_faults(row: Mapping[str, Any], group: Group | None, hashes: dict[str, str]) -> Iterator[str]:
    versions = _parsed(row["versions"])
    if missing := [name for name in (*_VERSIONS, *_OF_ROW) if not versions.get(name)]:
        yield f"versions lack {', '.join(missing)}"
        return
    if texts := [name for name, value in versions.items() if not isinstance(value, str)]:
        yield f"versions has {texts[0]} {versions[texts[0]]!r}, expected text"
        return
    if wrong := [name for name in _NUMBERED if not re.fullmatch(r"\d+(\.\d+)*([.+-]?\w+)*", versions[name])]:
        yield f"versions has {wrong[0]} {versions[wrong[0]]!r}, expected a version such as 1.2.3"
    if group is not None and versions["data"] != group.sha256:
        yield f"the data has the hash {versions['data'][:12]}, expected {group.sha256[:12]}"
    name = row["module"]
    try:
        today = hashes.setdefault(name, code_hashes([name])[name])
    except UnknownNameError:
        return  # told already
    if versions["module"] != today:
        yield (
            f"the code of the module has the hash {versions['module']}, and today {today}; it was changed after the "
            "measurement; `scripts/atlas collect` drops the row, and `scripts/atlas run "
            f"{'GROUP' if group is None else group.name} --out NEW`, then `scripts/atlas collect RUN`, measure it again"
        )


def _number_faults(row: Mapping[str, Any]) -> Iterator[str]:
    from nasbench.evidence.pairs import verdict_of  # imports SciPy, which reading the atlas does not need

    if row["seeds"] not in (seeds := sorted({each.seeds for each in PASSES})):
        yield f"{row['seeds']} seeds, expected {_either(seeds)}, as a pass of the protocol has"
    for names, needed in zip(_INTERVALS, (True, False), strict=True):
        low, value, high = (row[name] for name in names)
        if not needed and all(map(math.isnan, (low, value, high))):
            continue
        if not (all(map(math.isfinite, (low, value, high))) and low <= value <= high):
            yield f"{names[1]} {value} with an interval from {low} to {high}"
        elif abs(value - (low + high) / 2) > _SKEW * (high - low) + 1e-12:
            yield f"{names[1]} {value} is not in the middle of its interval from {low} to {high}"
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
    elif row["control_verdict"] and row["control_verdict"] != verdict_of(row["control_low"], row["control_high"]):
        interval = f"from {row['control_low']} to {row['control_high']}"
        yield f"control_verdict {row['control_verdict']} with an interval {interval}"
    if row["params"] <= 0 or row["macs"] <= 0:
        yield f"params {row['params']} and macs {row['macs']}, expected positive numbers"
    if not (math.isnan(row["latency_ratio"]) or 0 < row["latency_ratio"] < math.inf):
        yield f"latency_ratio {row['latency_ratio']}, expected a positive number or none"


def _parsed(versions: str) -> dict[str, Any]:
    try:
        parsed = json.loads(versions)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _shared(versions: str) -> dict[str, Any]:
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
