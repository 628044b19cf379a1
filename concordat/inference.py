"""Guessing a data contract's fields from tables, and bringing cells into the guessed form.

Only the demo does this (`concordat.dataset`). What is guessed is said, one line per column. Ranges are never
guessed: an observed extreme is somebody's row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as setting
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic import Field as Setting

from node import cells
from node.tables import Source
from protocol.contract import Field, FieldType, Name
from protocol.errors import ConfigurationError

MOST_LEVELS = 60
OTHER = "other"
EPOCH = np.datetime64("1970-01-01", "s")
_SECONDS = 86_400.0
_COUNTED = 20_000


class FieldRule(BaseModel):
    """What the manifest says of one column; what it leaves out is inferred."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name | None = Setting(
        default=None, description="Name in the contract; by default made from the column's."
    )
    type: FieldType | None = Setting(
        default=None,
        description="A date column declared (or inferred) as number becomes days since 1970-01-01.",
    )
    unit: str = Setting(default="", max_length=40, description="Unit of a number.")
    levels: tuple[str, ...] = Setting(
        default=(), description="Levels of a category; any other value is refused."
    )
    most_frequent: int | None = Setting(
        default=None, ge=1, le=500, description='Category: keep this many levels and call all others "other".'
    )
    prefix: int | None = Setting(
        default=None, ge=1, description="Category: use only this many leading characters."
    )
    of: str | None = Setting(
        default=None,
        description="Derived number: this column divided by `over`. The rule's key is a new name.",
    )
    over: str | None = Setting(
        default=None, description="Derived number: the divisor's column; 0 gives no value."
    )
    minimum: float | None = Setting(default=None, description="Smallest number allowed.")
    maximum: float | None = Setting(default=None, description="Largest number allowed.")
    missing: Literal["allowed", "refused"] = Setting(
        default="allowed", description="Whether a cell may be empty."
    )
    dimension: str = Setting(default="", max_length=40, description="Data class: tax, court, registry …")
    frequency: Literal["once", "daily", "weekly", "monthly", "quarterly", "yearly"] = Setting(
        default="monthly", description="How often its source brings it up to date."
    )
    sensitivity: Literal["C1", "C2", "C3"] = Setting(default="C2", description="Class after JR/T 0171.")
    description_en: Annotated[str, StringConstraints(max_length=400)] = Setting(
        default="", description="In English."
    )
    description_zh: Annotated[str, StringConstraints(max_length=400)] = Setting(
        default="", description="In Chinese."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        categorical = bool(self.levels) or self.most_frequent is not None or self.prefix is not None
        if categorical and self.type not in (None, "category"):
            raise ValueError("levels, most_frequent and prefix belong to a category")
        if (self.of is None) != (self.over is None):
            raise ValueError("a derived number needs both of and over")
        if self.of is not None and (categorical or self.type not in (None, "number")):
            raise ValueError("a derived field is a number")
        if self.levels and self.most_frequent is not None:
            raise ValueError("give levels or most_frequent, not both")
        if (self.minimum is not None or self.maximum is not None) and (
            categorical or self.type not in (None, "number")
        ):
            raise ValueError("minimum and maximum belong to a number")
        return self


@dataclass(frozen=True)
class Part:
    """One party's share in the inference: its file and its feature columns."""

    party: str
    source: Source
    columns: tuple[str, ...]


@dataclass
class _Seen:
    """What a column's cells could be, over all files of a role."""

    rows: int = 0
    filled: int = 0
    number: bool = True
    flag: bool = True
    day: bool = True
    counts: Counter[str] = setting(default_factory=Counter)


def slug(column: str) -> str:
    """Return a contract's name for a column: lower case, digits and underscores, starting with a letter.

    >>> slug("Loan Amount (CNY)")
    'loan_amount_cny'
    >>> slug("2024")
    'c_2024'
    """
    ascii_name = re.sub(r"[^0-9a-z]+", "_", column.lower()).strip("_")[:60]
    if not ascii_name:
        ascii_name = "u" + "_".join(f"{ord(c):x}" for c in column[:8])
    return ascii_name if ascii_name[0].isalpha() else f"c_{ascii_name}"


def infer_fields(
    role: str, parts: Sequence[Part], rules: Mapping[str, FieldRule]
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """Infer a role's fields from the tables of all its parties.

    Args:
        role: for messages.
        parts: at least one.
        rules: what the manifest knows, by column name.

    Returns:
        The fields in the order of the first table's columns, and a line for people on each guess.

    Raises:
        ConfigurationError: parties of one role have different columns (``DATASET_COLUMNS_DIFFER``), two
            columns get one name (``DATASET_NAME_TWICE``), a column is wholly empty
            (``DATASET_EMPTY_COLUMN``) or has too many levels for a category (``DATASET_TOO_MANY_LEVELS``).
        DataError: a file can't be read.
    """
    columns = parts[0].columns
    for part in parts[1:]:
        if set(part.columns) != set(columns):
            odd = sorted(set(part.columns) ^ set(columns))[0]
            raise ConfigurationError(
                "DATASET_COLUMNS_DIFFER",
                f"the parties of the role {role} have different columns: {odd!r} is not in the tables of both"
                f" {parts[0].party} and {part.party}",
                "List the same columns for all, or drop the ones that some lack.",
            )
    seen = {column: _Seen() for column in columns}
    done = set()
    for part in parts:
        if part.source.path not in done:
            done.add(part.source.path)
            for block in part.source.blocks(columns):
                for column in columns:
                    _look(seen[column], block.cells.column(column), rules.get(column, FieldRule()))
    fields: dict[str, Field] = {}
    notes = []
    derived = {key: rule for key, rule in rules.items() if rule.of is not None}
    for column in (*columns, *derived):
        if column in derived:
            field, note = _derive(column, derived[column])
        else:
            field, note = _decide(role, column, seen[column], rules.get(column, FieldRule()))
        if field.name in fields:
            raise ConfigurationError(
                "DATASET_NAME_TWICE",
                f"two columns of the role {role} get the name {field.name!r}, one of them {column!r}",
                f"Give one another name: [fields.{role}.{column!r}] name = …",
            )
        fields[field.name] = field
        notes.append(note)
    return tuple(fields.values()), tuple(notes)


def prepared(field: Field, rule: FieldRule) -> Callable[[pa.Array], pa.Array]:
    """Return how to bring a column's cells into the field's form; what doesn't fit stays as it is."""
    if field.type == "number":
        return _days
    if field.type != "category":
        return lambda array: array
    levels = pa.array(field.levels, pa.string())

    def read(array: pa.Array) -> pa.Array:
        text = _levels_text(array, rule)
        if rule.most_frequent is None:
            return text
        keep = pc.or_(pc.is_in(text, value_set=levels), pc.equal(text, ""))
        return pc.if_else(keep, text, OTHER)

    return read


def _levels_text(array: pa.Array, rule: FieldRule) -> pa.Array:
    text = pc.utf8_trim_whitespace(cells.as_text(array))
    text = text if rule.prefix is None else pc.utf8_slice_codeunits(text, 0, rule.prefix)
    if rule.levels:
        return text
    blank = pc.is_in(pc.utf8_lower(text), value_set=pa.array(cells.MISSING))
    return pc.if_else(blank, "", text)


def quotient(above: pa.Array, below: pa.Array) -> pa.Array:
    """Return above / below; empty where one is empty or the divisor is 0, infinite where one is no number."""
    top, bottom = cells.number(above), cells.number(below)
    usable = ~(top.missing | bottom.missing | top.wrong | bottom.wrong) & (bottom.values != 0)
    values = np.full(len(top.values), np.nan)
    values[usable] = top.values[usable] / bottom.values[usable]
    values[top.wrong | bottom.wrong] = np.inf  # which the check refuses, with the line
    return pa.array(values, from_pandas=True)


def _days(array: pa.Array) -> pa.Array:
    """Return dates as days since 1970-01-01; cells that are numbers already, or neither, stay as they are."""
    temporal = pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    if not temporal and not (pa.types.is_string(array.type) or _large(array.type)):
        return array
    odd = np.ones(len(array), dtype=bool) if temporal else cells.number(array).wrong
    if not odd.any():
        return array
    dates = cells.day(array)
    days = (dates.values - EPOCH).astype(np.float64) / _SECONDS
    if temporal:
        return pa.array(np.where(dates.missing, np.nan, days), from_pandas=True)
    found = ~dates.missing & ~dates.wrong & odd
    text = [f"{day:.0f}" for day in days[found]]
    return pc.replace_with_mask(pc.cast(array, pa.string()), pa.array(found), pa.array(text, pa.string()))


def _large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _look(seen: _Seen, array: pa.Array, rule: FieldRule) -> None:
    number = cells.number(array)
    seen.rows += len(array)
    temporal = pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    if temporal:
        seen.filled += len(array) - array.null_count
        seen.number = seen.flag = False
        return
    filled = ~number.missing
    seen.filled += int(filled.sum())
    seen.number &= not number.wrong.any()
    seen.flag &= not cells.flag(array).wrong.any()
    seen.day &= not cells.day(array).wrong.any()
    wanted = rule.type == "category" or rule.prefix is not None or rule.most_frequent is not None
    textual = number.wrong.any() or pa.types.is_string(array.type)
    if not rule.levels and (wanted or (textual and len(seen.counts) <= _COUNTED)):
        for pair in pc.value_counts(_levels_text(array, rule)).to_pylist():
            if pair["values"]:
                seen.counts[pair["values"]] += pair["counts"]


def _decide(role: str, column: str, seen: _Seen, rule: FieldRule) -> tuple[Field, str]:
    place = f"column {column!r} of the role {role}"
    if not seen.filled:
        raise ConfigurationError(
            "DATASET_EMPTY_COLUMN", f"{place} has no value at all", "Drop it in the manifest."
        )
    kind, unit, said = rule.type, rule.unit, "declared"
    if kind is None:
        said = "inferred"
        if rule.levels or rule.most_frequent is not None or rule.prefix is not None:
            kind = "category"
        elif rule.minimum is not None or rule.maximum is not None:
            kind = "number"
        else:
            kind = "flag" if seen.flag else "number" if seen.number or seen.day else "category"
    if kind == "number" and not seen.number and seen.day:
        unit = unit or "days since 1970-01-01"
    levels: tuple[str, ...] = ()
    if kind == "category":
        levels = rule.levels or _levels(place, seen, rule)
    more = f", {len(levels)} levels" if levels else f", {unit}" if unit else ""
    empty = f", {1 - seen.filled / seen.rows:.1%} empty" if seen.filled < seen.rows else ""
    field = _field(column, rule, kind, unit, levels)
    return field, f"{field.name}: {kind} ({said}{more}{empty})"


def _derive(key: str, rule: FieldRule) -> tuple[Field, str]:
    field = _field(key, rule, "number", rule.unit or "ratio", ())
    return field, f"{field.name}: number (derived: {rule.of} / {rule.over})"


def _field(column: str, rule: FieldRule, kind: FieldType, unit: str, levels: tuple[str, ...]) -> Field:
    return Field(
        name=rule.name or slug(column),
        type=kind,
        unit=unit,
        levels=levels,
        minimum=rule.minimum,
        maximum=rule.maximum,
        missing=rule.missing,
        dimension=rule.dimension,
        frequency=rule.frequency,
        sensitivity=rule.sensitivity,
        description_en=rule.description_en or ("" if slug(column) == column else f"Column {column}"[:400]),
        description_zh=rule.description_zh,
    )


def _levels(place: str, seen: _Seen, rule: FieldRule) -> tuple[str, ...]:
    ranked = sorted(seen.counts, key=lambda level: (-seen.counts[level], level))
    if rule.most_frequent is not None:
        kept = sorted(set(ranked[: rule.most_frequent]) - {OTHER})
        return (*kept, OTHER)
    if len(ranked) > MOST_LEVELS:
        raise ConfigurationError(
            "DATASET_TOO_MANY_LEVELS",
            f"{place} is text with more than {MOST_LEVELS} different values",
            "Drop it, or declare it with most_frequent, prefix, levels, or as a number.",
        )
    return tuple(sorted(ranked))
