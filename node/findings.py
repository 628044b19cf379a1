"""What can be wrong with a table, and how it is told: one screen, by kind, with lines, never a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.tables import Source
from protocol.contract import Dataset
from protocol.errors import DataError

SHOWN = 20
_LABEL_CLASSES = 2


@dataclass(frozen=True)
class Problem:
    """One kind of mistake in one field: `count` records, the first of them at `positions`."""

    code: str
    field: str
    what: str
    count: int
    positions: tuple[int, ...] = ()


WHAT = {
    "DATA_BROKEN_ROW": "too few or too many cells",
    "DATA_MISSING_VALUE": "empty, and the contract wants a value",
    "DATA_WRONG_TYPE": "not of the declared type",
    "DATA_OUT_OF_RANGE": "outside the declared range",
    "DATA_UNDECLARED_LEVEL": "a level that the contract doesn't declare",
    "DATA_INVALID_ID": "not a valid id",
    "DATA_DUPLICATE_ID": "an id that occurs more than once",
    "DATA_LABEL": "neither 0 nor 1",
}
_HINTS = {
    "DATA_BROKEN_ROW": "Quote cells that hold a delimiter.",
    "DATA_MISSING_VALUE": "Fill the cells at the source, or leave the rows out.",
    "DATA_WRONG_TYPE": "Write plain numbers, without thousands separators or units, and days as 2026-01-31.",
    "DATA_OUT_OF_RANGE": "Look at the unit in the contract.",
    "DATA_UNDECLARED_LEVEL": "Map the source's codes to the contract's levels.",
    "DATA_INVALID_ID": "A Unified Social Credit Code has 18 characters, the last one a check.",
    "DATA_DUPLICATE_ID": "Keep one row per enterprise.",
    "DATA_LABEL": "Write 1 for a default and 0 otherwise.",
    "DATA_TOO_FEW_ROWS": "Bring more enterprises, or ask the consortium to amend the contract.",
    "DATA_ONE_CLASS": "Look whether the table was filtered by outcome.",
}


def of_whole_table(rows: int, label: NDArray[np.int8] | None, dataset: Dataset) -> list[Problem]:
    """Return what is wrong with the clean rows as a whole: too few, or all of one outcome."""
    found = []
    if rows < dataset.min_rows:
        found.append(
            Problem(
                "DATA_TOO_FEW_ROWS",
                "",
                f"{rows:,} clean rows, and the contract wants {dataset.min_rows:,}",
                rows,
            )
        )
    if label is not None and dataset.label and rows and len(np.unique(label)) < _LABEL_CLASSES:
        found.append(Problem("DATA_ONE_CLASS", dataset.label, "all rows have the same outcome", rows))
    return found


def refusal(
    source: Source,
    dataset: Dataset,
    problems: list[Problem],
    whole: list[Problem],
    read_rows: int,
    bad_rows: int,
) -> DataError:
    """Return one screen: each kind of mistake once, with its count and the first lines or rows."""
    lines = []
    for problem in problems[:SHOWN]:
        broken = problem.code == "DATA_BROKEN_ROW"
        numbers = source.broken_lines(SHOWN) if broken else source.numbers(problem.positions)
        named = ", ".join(f"{n:,}" for n in numbers) + (", …" if problem.count > len(numbers) else "")
        place = f"field {problem.field}: " if problem.field else ""
        unit = source.unit + ("s" if len(numbers) > 1 else "")
        lines.append(f"  {place}{problem.what} ({problem.code}), {_rows(problem.count)}: {unit} {named}")
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more kinds of mistakes")
    lines += [
        f"  {f'field {problem.field}: ' if problem.field else ''}{problem.what} ({problem.code})"
        for problem in whole
    ]
    codes = list(dict.fromkeys(problem.code for problem in [*problems, *whole]))
    summary = f'{source.name} breaks the data contract\'s "{dataset.name}" ({read_rows:,} rows read'
    summary += f", {bad_rows:,} bad):" if bad_rows else "):"
    return DataError(
        codes[0] if len(codes) == 1 else "DATA_REFUSED",
        summary + "\n" + "\n".join(lines),
        "\n  ".join(_HINTS[code] for code in codes),
    )


def _rows(count: int) -> str:
    return f"{count:,} row" + ("" if count == 1 else "s")
