"""The real data sets of the benchmarks: columns, derived columns and splits, in one place.

Nothing here ships with the product, and no path is built in: the caller names the folder.

``default-credit``: the bank's 13 columns x0 ... x12 of UCI "default of credit card clients" (30,000 rows, 22.12 %
positive) as they come, already standardised. No derived column.

``sba-lean`` and ``sba-wide``: SBA small-business loans (30,000 rows, half of them charged off). What leaks the
outcome is dropped: term, disbursement, balance and charge-off columns. Columns of the lender:

============== ===== ===== ====================================================================
column         lean  wide  what
============== ===== ===== ====================================================================
gr_appv        x     x     amount approved, in USD
sba_appv       x     x     amount that the SBA guarantees, in USD
approval_fy    x     x     fiscal year of the approval
rev_line_cr    x     x     category Y / N
low_doc        x     x     category Y / N
guaranteed           x     derived: sba_appv / gr_appv
approval_day         x     derived: days from 1970-01-01 to the approval
bank                 x     category: the 40 most frequent names in the file, everything else is "other"
bank_state           x     category: every value in the file
============== ===== ===== ====================================================================

Levels of categories are read from the whole file, as a consortium's contract would declare them; no outcome is
used for it.

Splits: ``numpy.random.PCG64(seed)`` permutes the rows; the first 70 % train, the rest test; of the training rows
bank b takes every third from row b. Halves for out-of-fold scores by a keyed hash of the id, as in the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bank_node.encoding import Columns

BANKS = 3
TRAIN_SHARE = 0.7
FREQUENT_BANKS = 40
NAMES = ("default-credit", "sba-wide", "sba-lean")


@dataclass(frozen=True)
class Dataset:
    """A table with its inputs.

    Attributes:
        name: one of ``NAMES``.
        columns: the banks' own columns.
        frame: ids in ``id``, outcomes in ``outcome`` (1 = default), and the columns.
    """

    name: str
    columns: Columns
    frame: pd.DataFrame


@dataclass(frozen=True)
class Split:
    """One seed's division of a data set.

    Attributes:
        seed: the stated seed.
        banks: each bank's training rows.
        test: rows that nobody trains on.
    """

    seed: int
    banks: tuple[pd.DataFrame, ...]
    test: pd.DataFrame

    @property
    def pooled(self) -> pd.DataFrame:
        """All banks' training rows, which nobody may hold in real life."""
        return pd.concat(self.banks)


def load(name: str, folder: Path) -> Dataset:
    """Read a data set.

    Args:
        name: one of ``NAMES``.
        folder: where the files stand.
    """
    if name == "default-credit":
        frame = pd.read_parquet(folder / "default_credit_bank.parquet").rename(columns={"y": "outcome"})
        frame["id"] = frame["id"].astype(str)
        return Dataset(name, Columns(tuple(f"x{i}" for i in range(13))), frame)
    if name not in NAMES:
        raise ValueError(f"no data set is called {name}; there are {', '.join(NAMES)}")
    return _sba(name, pd.read_parquet(folder / "sba_small_business_30k.parquet"))


def _sba(name: str, raw: pd.DataFrame) -> Dataset:
    day = (pd.to_datetime(raw["approval_date"]) - pd.Timestamp("1970-01-01")).dt.days
    frame = pd.DataFrame(
        {
            "id": raw["loan_nr_chk_dgt"].astype("int64").astype(str),
            "outcome": (raw["mis_status"] == "CHGOFF").astype("int64"),
            "gr_appv": raw["gr_appv"],
            "sba_appv": raw["sba_appv"],
            "approval_fy": raw["approval_fy"],
            "rev_line_cr": raw["rev_line_cr"].astype("str"),
            "low_doc": raw["low_doc"].astype("str"),
            "guaranteed": raw["sba_appv"] / raw["gr_appv"],
            "approval_day": day.astype("float64"),
            "bank": raw["bank"].astype("str"),
            "bank_state": raw["bank_state"].astype("str"),
        }
    )
    numbers = ["gr_appv", "sba_appv", "approval_fy"]
    categories: list[tuple[str, tuple[str, ...]]] = [("rev_line_cr", ("Y", "N")), ("low_doc", ("Y", "N"))]
    if name == "sba-wide":
        numbers += ["guaranteed", "approval_day"]
        counts = frame["bank"].dropna().value_counts()
        frequent = sorted(counts.index, key=lambda bank: (-counts[bank], bank))[:FREQUENT_BANKS]
        categories.append(("bank", tuple(frequent)))
        categories.append(("bank_state", tuple(sorted(frame["bank_state"].dropna().unique()))))
    columns = Columns(tuple(numbers), tuple(categories))
    return Dataset(name, columns, frame[["id", "outcome", *numbers, *(c for c, _ in categories)]])


def split(dataset: Dataset, seed: int) -> Split:
    """Divide a data set by a stated seed."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset.frame))
    cut = round(TRAIN_SHARE * len(order))
    banks = tuple(dataset.frame.iloc[order[:cut][bank::BANKS]] for bank in range(BANKS))
    return Split(seed, banks, dataset.frame.iloc[order[cut:]])
