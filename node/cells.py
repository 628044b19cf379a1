"""What the cells of one column mean: text or typed values into numbers, flags, level codes, days and ids.

Each reader takes an Arrow array of n cells and returns its values with two masks: `missing` (the cell is
empty) and `wrong` (it is filled, but not with this type). A wrong cell's value is unspecified. Nothing here
raises for a cell and nothing keeps one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from protocol import uscc

# Spellings of an empty cell, compared in lower case. A level that a category declares is never one of them.
MISSING = ("", "na", "n/a", "#n/a", "null", "none", "nan", "-", "--", "\\n", "无", "空")
TRUE = ("1", "1.0", "true", "yes", "y", "t", "是")
FALSE = ("0", "0.0", "false", "no", "n", "f", "否")
_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DAY = r"^([0-9]{4})[-/.]?([0-9]{2})[-/.]?([0-9]{2})$"
_CONTROL = r"[\x00-\x1f\x7f]"


@dataclass(frozen=True)
class Column:
    """Values of n cells: float64, level codes (int16, -1 none), datetime64[s] or ids (Arrow text)."""

    values: Any
    missing: NDArray[np.bool_]
    wrong: NDArray[np.bool_]


def number(cells: pa.Array) -> Column:
    """Read finite decimal numbers into float64, NaN where missing or wrong."""
    if _is_text(cells):
        text, missing = _text(cells)
        values = _parsed(text, missing)
        wrong = ~missing & ~np.isfinite(values)
    elif pa.types.is_null(cells.type):
        values, missing = np.full(len(cells), np.nan), np.ones(len(cells), dtype=bool)
        wrong = np.zeros(len(cells), dtype=bool)
    elif _is_numeric(cells.type):
        values = _numeric(cells)
        missing = np.isnan(values)
        wrong = np.isinf(values)
    else:
        return _all_wrong(cells, np.full(len(cells), np.nan))
    return Column(np.where(wrong | missing, np.nan, values), missing, wrong)


def flag(cells: pa.Array) -> Column:
    """Read 0 and 1 (also true / false, yes / no, 是 / 否) into float64, NaN where missing or wrong."""
    if _is_text(cells):
        text, missing = _text(cells)
        lower = pc.utf8_lower(text)
        yes = _mask(pc.is_in(lower, value_set=pa.array(TRUE)))
        no = _mask(pc.is_in(lower, value_set=pa.array(FALSE)))
        missing &= ~(yes | no)
        values = np.where(yes, 1.0, np.where(no, 0.0, np.nan))
        return Column(values, missing, ~missing & ~yes & ~no)
    column = number(cells)
    wrong = column.wrong | (~column.missing & ~np.isin(column.values, (0.0, 1.0)))
    return Column(np.where(wrong, np.nan, column.values), column.missing, wrong)


def category(cells: pa.Array, levels: tuple[str, ...]) -> Column:
    """Read declared levels into int16 codes, -1 where missing or undeclared (which is `wrong` here)."""
    text = pc.utf8_trim_whitespace(as_text(cells))
    codes = pc.fill_null(pc.index_in(text, value_set=pa.array(levels, pa.string())), -1)
    found = codes.to_numpy(zero_copy_only=False).astype(np.int16)
    missing = (found < 0) & _blank(text)
    return Column(found, missing, (found < 0) & ~missing)


def day(cells: pa.Array) -> Column:
    """Read days (2024-01-31, 2024/01/31, 20240131) into datetime64[s], NaT where missing or wrong."""
    if pa.types.is_date(cells.type) or pa.types.is_timestamp(cells.type):
        stamps = pc.cast(pc.cast(cells, pa.date32(), safe=False), pa.timestamp("s"))
        values = stamps.to_numpy(zero_copy_only=False).astype("datetime64[s]")
        return Column(values, np.isnat(values), np.zeros(len(cells), dtype=bool))
    if not (_is_text(cells) or pa.types.is_integer(cells.type) or pa.types.is_null(cells.type)):
        return _all_wrong(cells, np.full(len(cells), np.datetime64("NaT", "s")))
    text, missing = _text(as_text(cells))
    plain = pc.replace_substring_regex(text, _DAY, r"\1-\2-\3")
    stamps = pc.strptime(plain, format="%Y-%m-%d", unit="s", error_is_null=True)
    # strptime may roll 30 February over into March: only a day that prints as it was read is one.
    same = _mask(pc.fill_null(pc.equal(pc.strftime(stamps, format="%Y-%m-%d"), plain), False))
    values = np.where(same, stamps.to_numpy(zero_copy_only=False), np.datetime64("NaT", "s")).astype(
        "datetime64[s]"
    )
    return Column(values, missing, ~missing & ~same)


def enterprise(cells: pa.Array, id_type: str) -> Column:
    """Read enterprise ids into canonical text; a bad check character or control character is `wrong`."""
    text = pc.utf8_trim_whitespace(as_text(cells))
    missing = _blank(text)
    broken = (
        ~missing & ~_whole(cells) if pa.types.is_floating(cells.type) else np.zeros(len(cells), dtype=bool)
    )
    if id_type == "uscc":
        text = _canonical_uscc(text, missing)
        good = np.zeros(len(text), dtype=bool)
        shaped = _mask(pc.match_substring_regex(text, uscc.PATTERN)) & ~missing
        if shaped.any():
            chosen = pc.take(text, pa.array(np.flatnonzero(shaped)))
            codes = np.frombuffer("".join(chosen.to_pylist()).encode("ascii"), dtype=np.uint8)
            good[shaped] = uscc.well_formed(codes.reshape(-1, uscc.LENGTH))
        return Column(text, missing, ~missing & ~good)
    text = pc.utf8_normalize(text, form="NFC")
    odd = _mask(pc.match_substring_regex(text, _CONTROL)) | _mask(pc.greater(pc.binary_length(text), 128))
    return Column(text, missing, ~missing & (odd | broken))


def as_text(cells: pa.Array) -> pa.Array:
    """Return cells as text: whole floats without ".0", booleans as true / false, nothing for null."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_floating(cells.type):
        whole, known = pa.array(_whole(cells)), pc.and_(cells.is_valid(), pc.invert(pc.is_nan(cells)))
        integers = pc.cast(pc.if_else(whole, cells, pa.scalar(0.0, cells.type)), pa.int64())
        cells = pc.if_else(whole, pc.cast(integers, pa.string()), pc.cast(cells, pa.string()))
        cells = pc.if_else(pc.fill_null(known, False), cells, pa.scalar("", pa.string()))
    if (
        pa.types.is_nested(cells.type)
        or pa.types.is_binary(cells.type)
        or pa.types.is_large_binary(cells.type)
    ):
        return pa.array(["\0" if filled else "" for filled in cells.is_valid().to_pylist()], pa.string())
    return pc.fill_null(pc.cast(cells, pa.string()), "")


def _canonical_uscc(text: pa.Array, missing: NDArray[np.bool_]) -> pa.Array:
    """Bring the few codes that aren't in canonical form into it."""
    odd = np.flatnonzero(~_mask(pc.match_substring_regex(text, uscc.PATTERN)) & ~missing)
    if not len(odd):
        return text
    mended = [uscc.canonical(cell) for cell in pc.take(text, pa.array(odd)).to_pylist()]
    mask = np.zeros(len(text), dtype=bool)
    mask[odd] = True
    return pc.replace_with_mask(text, pa.array(mask), pa.array(mended, pa.string()))


def _parsed(text: pa.Array, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return decimals as float64, not finite where the text is none."""
    empty = pa.scalar(None, pa.string())
    filled = pc.if_else(pa.array(missing), empty, text)
    try:
        parsed = pc.cast(filled, pa.float64())
    except pa.ArrowInvalid:  # some cell is no number: find which
        fits = pc.match_substring_regex(filled, _NUMBER)
        plain = pc.replace_substring_regex(pc.if_else(fits, filled, empty), r"^\+", "")
        try:
            parsed = pc.cast(plain, pa.float64())
        except pa.ArrowInvalid:  # an exponent beyond float64: the whole block goes the slow way
            parsed = pa.array(
                [None if cell is None else float(cell) for cell in plain.to_pylist()], pa.float64()
            )
    return np.asarray(parsed.to_numpy(zero_copy_only=False), dtype=np.float64)


def _numeric(cells: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_boolean(cells.type):
        cells = pc.cast(cells, pa.int8())
    return np.asarray(
        pc.cast(cells, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
    )


def _text(cells: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    text = pc.utf8_trim_whitespace(as_text(cells))
    return text, _blank(text)


def _blank(text: pa.Array) -> NDArray[np.bool_]:
    return _mask(pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING)))


def _whole(cells: pa.Array) -> NDArray[np.bool_]:
    values = np.asarray(pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.asarray((np.abs(values) < 2**53) & (np.floor(values) == values))


def _mask(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _is_text(cells: pa.Array) -> bool:
    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_numeric(kind: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(check(kind) for check in checks)


def _all_wrong(cells: pa.Array, values: Any) -> Column:
    filled = _mask(cells.is_valid())
    return Column(values, ~filled, filled)
