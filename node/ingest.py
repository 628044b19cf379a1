"""How a table enters a node: an institution's CSV or Parquet file, checked against the data contract.

The only module that sees raw rows of a file together with the contract. What comes out is clean (types,
ranges, levels, ids, labels are as agreed) or nothing comes out. With ``rejects="set-aside"`` bad rows go
into a reject table beside the clean one, and the two reconcile: rows read = clean + rejected.

A message names file, line, field and what to do, and never holds a value, an id or a name of an enterprise.
Reject tables do hold the institution's own cells: they stay on its disk.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as setting
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from node import cells
from node.findings import SHOWN, WHAT, Problem, of_whole_table, refusal
from node.tables import Block, Source, open_table
from protocol.contract import Dataset, Field, nearest
from protocol.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class Mapping:
    """Where the contract's fields stand in an institution's own table.

    Attributes:
        path: the file.
        id: column with the enterprise's id.
        label: column with the outcome (0 or 1); None for a partner.
        columns: contract field → table column; a field that isn't named is looked for under its own name.
        as_of: day to which the table reports, needed where the contract bounds its age.
    """

    path: Path
    id: str
    label: str | None = None
    columns: dict[str, str] = setting(default_factory=dict)
    as_of: datetime.date | None = None


@dataclass(frozen=True)
class Report:
    """What was read: counts and names, no values.

    Attributes:
        file: name of the file.
        format: ``"csv"`` or ``"parquet"``.
        encoding: of a CSV.
        rows_read: records in the file; always rows_clean + rows_rejected.
        rows_clean: records in the table.
        rows_rejected: records set aside.
        problems: the kinds of mistakes among the rejected.
        missing: empty cells per field, in the clean table; a field that is wholly empty is visible here.
        unused: number of columns in the file that the contract doesn't ask for.
    """

    file: str
    format: str
    encoding: str
    rows_read: int
    rows_clean: int
    rows_rejected: int
    problems: tuple[Problem, ...]
    missing: dict[str, int]
    unused: int

    @property
    def empty_fields(self) -> tuple[str, ...]:
        """Fields without a single value."""
        return tuple(
            name for name, count in self.missing.items() if self.rows_clean and count == self.rows_clean
        )


@dataclass(frozen=True)
class Table:
    """A clean table, sorted by id.

    Attributes:
        frame: index = canonical id; the contract's fields in its order; number and flag float64 (NaN =
            missing), category pandas Categorical over exactly the declared levels, date datetime64[s].
        label: (rows,) int8 of 0 and 1, or None.
        digest: SHA-256 of the content in hex; the same for CSV and Parquet and any order of rows. It stays
            inside the institution: a salted commitment is what may leave.
        source: what was read.
        rejects: with ``rejects="set-aside"`` one line per rejected record (number, problems, its mapped
            cells).
    """

    frame: pd.DataFrame
    label: NDArray[np.int8] | None
    digest: str
    source: Report
    rejects: pd.DataFrame | None = None

    @property
    def rows(self) -> int:
        """Number of enterprises."""
        return len(self.frame)


def read(
    path: Path,
    dataset: Dataset,
    mapping: Mapping,
    *,
    rejects: Literal["refuse", "set-aside"] = "refuse",
    today: datetime.date | None = None,
) -> Table:
    """Read an institution's file into a clean table.

    Args:
        path: the file; ``mapping.path`` unless it was resolved against another folder.
        dataset: what the contract asks of this role.
        mapping: where to find it.
        rejects: refuse the file for one bad row, or set bad rows aside.
        today: for the contract's bound on age; the clock's day by default.

    Raises:
        DataError: the file breaks the contract; all kinds of mistakes are told at once.
        ConfigurationError: the mapping names a field that the contract doesn't have, or no label where it
            needs one.
    """
    source = open_table(path, likely=[mapping.id, *mapping.columns.values(), *dataset.names])
    return check(source, dataset, mapping, rejects=rejects, today=today)


def check(
    source: Source,
    dataset: Dataset,
    mapping: Mapping,
    *,
    rejects: Literal["refuse", "set-aside"] = "refuse",
    today: datetime.date | None = None,
) -> Table:
    """Read an opened file into a clean table. Arguments and errors as for :func:`read`."""
    _check_age(source, dataset, mapping, today)
    where = _locate(source, dataset, mapping)
    broken: list[int] = []
    parts = [_part(block, dataset, where) for block in source.blocks(set(where.values()), broken)] or [
        _part(
            Block(pa.RecordBatch.from_pylist([], _text_schema(source)), np.zeros(0, np.int64)), dataset, where
        )
    ]
    positions = np.concatenate([part.positions for part in parts])
    ids = pd.Series(pa.chunked_array([part.ids for part in parts], pa.string()).to_pandas(), dtype="str")
    findings = _merge(parts, dataset)
    valid = np.ones(len(positions), dtype=bool)
    for (_, name), mask in findings.items():
        if name == _ID:
            valid &= ~mask
    duplicate = np.zeros(len(positions), dtype=bool)
    duplicate[valid] = ids[valid].duplicated(keep=False).to_numpy()
    if duplicate.any():
        findings[("DATA_DUPLICATE_ID", _ID)] = duplicate
    bad = np.zeros(len(positions), dtype=bool)
    for mask in findings.values():
        bad |= mask
    problems = [
        Problem(
            code=code,
            field=_shown(name),
            what=WHAT[code],
            count=int(mask.sum()),
            positions=tuple(positions[np.flatnonzero(mask)[:SHOWN]].tolist()),
        )
        for (code, name), mask in findings.items()
    ]
    if broken:
        problems.append(Problem("DATA_BROKEN_ROW", "", WHAT["DATA_BROKEN_ROW"], len(broken)))
    keep = np.flatnonzero(~bad)
    label = np.concatenate([part.label for part in parts])[keep].astype(np.int8) if dataset.label else None
    whole = of_whole_table(len(keep), label, dataset) if rejects == "set-aside" or not problems else []
    if whole or (problems and rejects == "refuse"):
        raise refusal(
            source, dataset, problems, whole, len(positions) + len(broken), int(bad.sum()) + len(broken)
        )
    frame, label = _assemble(parts, keep, ids, label, dataset)
    report = Report(
        file=source.name,
        format=source.format,
        encoding=source.encoding,
        rows_read=len(positions) + len(broken),
        rows_clean=len(frame),
        rows_rejected=int(bad.sum()) + len(broken),
        problems=tuple(problems),
        missing={str(name): int(count) for name, count in frame.isna().sum().items()},
        unused=len(source.columns) - len(set(where.values())),
    )
    aside = (
        _set_aside(source, where, findings, positions, bad, len(broken)) if rejects == "set-aside" else None
    )
    return Table(frame, label, _digest(frame, label), report, aside)


def write_rejects(table: Table, path: Path) -> None:
    """Write a table's rejects as CSV, readable by the owner only: they hold the institution's own rows.

    Raises:
        ConfigurationError: the table was not read with ``rejects="set-aside"`` (``REJECTS_NOT_KEPT``).
    """
    if table.rejects is None:
        raise ConfigurationError("REJECTS_NOT_KEPT", "this table was read without setting rejects aside")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
        table.rejects.to_csv(stream, index=False, lineterminator="\n")


@dataclass(frozen=True)
class _Part:
    """One block, typed: values per field, found mistakes per (code, field) as masks over its records."""

    positions: NDArray[np.int64]
    ids: pa.Array
    values: dict[str, NDArray[Any]]
    label: NDArray[np.float64]
    findings: dict[tuple[str, str], NDArray[np.bool_]]


def _check_age(source: Source, dataset: Dataset, mapping: Mapping, today: datetime.date | None) -> None:
    if dataset.max_age_days is None:
        return
    if mapping.as_of is None:
        raise DataError(
            "DATA_AGE_UNKNOWN",
            f"{source.name}, field as_of: the contract bounds the table's age to {dataset.max_age_days} days,"
            " and the mapping doesn't say to which day it reports",
            "Add as_of to the mapping.",
        )
    age = ((today or datetime.datetime.now(datetime.UTC).date()) - mapping.as_of).days
    if age > dataset.max_age_days or age < 0:
        raise DataError(
            "DATA_STALE",
            f"{source.name}, field as_of: the table reports to a day {abs(age)} days "
            + ("in the future" if age < 0 else f"ago; the contract allows {dataset.max_age_days}"),
            "Export it again and state the day to which it reports.",
        )


def _locate(source: Source, dataset: Dataset, mapping: Mapping) -> dict[str, str]:
    """Return field → column, with the id and label under reserved keys; refuse what can't be found."""
    unknown = sorted(set(mapping.columns) - set(dataset.names))
    if unknown:
        raise ConfigurationError(
            "MAPPING_UNKNOWN_FIELD",
            f"the mapping of {source.name} names fields that the contract doesn't have: {', '.join(unknown)}",
            nearest(unknown[0], dataset.names),
        )
    if dataset.label and not mapping.label:
        raise ConfigurationError(
            "MAPPING_NO_LABEL",
            f'the mapping of {source.name} names no column for the label "{dataset.label}"',
            "Add label to the mapping.",
        )
    where = {_ID: mapping.id} | ({_LABEL: mapping.label} if dataset.label and mapping.label else {})
    where |= {name: mapping.columns.get(name, name) for name in dataset.names}
    columns = source.columns
    lines, hints = [], []
    for name, column in where.items():
        shown = dataset.label if name == _LABEL else _shown(name)
        if columns.count(column) != 1:
            what = "is missing" if column not in columns else "stands there more than once"
            lines.append(f"  field {shown}: the column {column!r} {what}")
            if column not in columns:
                hints.append(nearest(column, columns, "The file has"))
    if lines:
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise DataError(
            "DATA_MISSING_COLUMN" if hints else "DATA_AMBIGUOUS_COLUMN",
            f'{source.name} does not bring what the data contract asks of "{dataset.name}":\n'
            + "\n".join(lines[:SHOWN] + more),
            " ".join(dict.fromkeys(hints[:5])) or "Rename one of the two columns.",
        )
    return where


# Keys that no field of a contract can have.
_ID, _LABEL = "\0id", "\0label"


def _shown(name: str) -> str:
    return "id" if name == _ID else name


def _text_schema(source: Source) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in source.columns])


def _part(block: Block, dataset: Dataset, where: dict[str, str]) -> _Part:
    column = block.cells.column
    ids = cells.enterprise(column(where[_ID]), dataset.id_type)
    findings = {("DATA_MISSING_VALUE", _ID): ids.missing, ("DATA_INVALID_ID", _ID): ids.wrong}
    values: dict[str, NDArray[Any]] = {}
    for field in dataset.fields:
        read_as = _column(column(where[field.name]), field)
        wrong = "DATA_UNDECLARED_LEVEL" if field.type == "category" else "DATA_WRONG_TYPE"
        findings[(wrong, field.name)] = read_as.wrong
        if field.missing == "refused":
            findings[("DATA_MISSING_VALUE", field.name)] = read_as.missing
        if field.type == "number":
            low = -np.inf if field.minimum is None else field.minimum
            high = np.inf if field.maximum is None else field.maximum
            findings[("DATA_OUT_OF_RANGE", field.name)] = (read_as.values < low) | (read_as.values > high)
        values[field.name] = read_as.values
    outcome: NDArray[np.float64] = np.zeros(0)
    if dataset.label:
        read_as = cells.number(column(where[_LABEL]))
        outcome = read_as.values
        findings[("DATA_MISSING_VALUE", dataset.label)] = read_as.missing
        findings[("DATA_LABEL", dataset.label)] = ~read_as.missing & ~np.isin(outcome, (0.0, 1.0))
    found = {key: mask for key, mask in findings.items() if mask.any()}
    return _Part(block.positions, ids.values, values, outcome, found)


def _column(array: pa.Array, field: Field) -> cells.Column:
    match field.type:
        case "number":
            return cells.number(array)
        case "flag":
            return cells.flag(array)
        case "date":
            return cells.day(array)
        case "category":
            return cells.category(array, field.levels)


def _merge(parts: list[_Part], dataset: Dataset) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return the mistakes of all blocks as masks over all records, in the contract's order of fields."""
    order = [_ID, dataset.label, *dataset.names]
    keys = {key for part in parts for key in part.findings}
    return {
        key: np.concatenate(
            [part.findings.get(key, np.zeros(len(part.positions), dtype=bool)) for part in parts]
        )
        for key in sorted(keys, key=lambda key: (order.index(key[1]), key[0]))
    }


def _assemble(
    parts: list[_Part],
    keep: NDArray[np.int64],
    ids: pd.Series[str],
    label: NDArray[np.int8] | None,
    dataset: Dataset,
) -> tuple[pd.DataFrame, NDArray[np.int8] | None]:
    """Return the clean rows sorted by id."""
    chosen = ids.iloc[keep]
    order = np.asarray(pc.sort_indices(pa.array(chosen, pa.string())))
    rows = keep[order]
    data: dict[str, Any] = {}
    for field in dataset.fields:
        values = np.concatenate([part.values.pop(field.name) for part in parts])[rows]
        data[field.name] = (
            pd.Categorical.from_codes(values, categories=pd.Index(field.levels, dtype="str"))
            if field.type == "category"
            else values
        )
    frame = pd.DataFrame(data, index=pd.Index(chosen.iloc[order], dtype="str", name="id"))
    return frame, None if label is None else label[order]


def _digest(frame: pd.DataFrame, label: NDArray[np.int8] | None) -> str:
    """SHA-256 over length-prefixed names and columns, little-endian, one spelling of NaN."""
    total = hashlib.sha256(b"concordat/table/v1")

    def put(data: bytes) -> None:
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)

    put("\n".join(pa.array(frame.index, pa.string()).to_pylist()).encode())
    for name in frame.columns:
        column = frame[name]
        put(str(name).encode())
        if isinstance(column.dtype, pd.CategoricalDtype):
            for level in column.cat.categories:
                put(str(level).encode())
            put(column.cat.codes.to_numpy().astype("<i2").tobytes())
        elif column.dtype.kind == "M":
            put(column.to_numpy().astype("datetime64[s]").astype("<i8").tobytes())
        else:
            values = column.to_numpy().astype("<f8")
            put(np.where(np.isnan(values), np.float64(np.nan), values + 0.0).tobytes())
    put(b"" if label is None else label.tobytes())
    return total.hexdigest()


def _set_aside(
    source: Source,
    where: dict[str, str],
    findings: dict[tuple[str, str], NDArray[np.bool_]],
    positions: NDArray[np.int64],
    bad: NDArray[np.bool_],
    broken: int,
) -> pd.DataFrame:
    """Return one line per rejected record: its number, its problems, its mapped cells as read."""
    chosen = np.flatnonzero(bad)
    told = [(code, _shown(name), mask) for (code, name), mask in findings.items()]
    reasons = [
        "; ".join(f"{name}: {WHAT[code]} ({code})" for code, name, mask in told if mask[row])
        for row in chosen
    ]
    numbers = source.numbers(positions[chosen].tolist())
    columns = list(dict.fromkeys(where.values()))
    original = _original(source, set(positions[chosen].tolist()), columns)
    own = {source.unit: numbers, "problems": reasons}
    aside = pd.DataFrame(own | {column + "_" * (column in own): texts for column, texts in original.items()})
    if broken:
        lines = source.broken_lines(broken)
        extra = pd.DataFrame({source.unit: lines, "problems": f"{WHAT['DATA_BROKEN_ROW']} (DATA_BROKEN_ROW)"})
        aside = (
            pd.concat([aside, extra], ignore_index=True)
            if len(aside)
            else extra.reindex(columns=aside.columns)
        )
    return aside.sort_values(source.unit, ignore_index=True)


def _original(source: Source, chosen: set[int], columns: Iterable[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {column: [] for column in columns}
    if chosen:
        for block in source.blocks(list(wanted)):
            rows = pa.array(np.flatnonzero(np.isin(block.positions, list(chosen))))
            for column in wanted:
                wanted[column] += cells.as_text(block.cells.column(column).take(rows)).to_pylist()
    return wanted
