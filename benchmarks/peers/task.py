"""The task that all solve: rows, columns and hold-out, as files for the peers and as a data directory for ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.data import split_salt
from bank_node.training import is_holdout
from concordat import dataset
from concordat.simulate import proposal_for

SEED = 7
BANKS = 3
STRANGERS = 6
"""A partner lists one enterprise more for so many of the banks'."""


@dataclass(frozen=True)
class Task:
    """The files.

    Attributes:
        directory: data directory with a manifest: three banks, two partners.
        folder: ``bank.csv``, ``partner.csv`` and ``partner_aligned.csv`` for the peers.
        rows: of all banks together.
        holdout: of them held out, by the banks' own rule.
        bank: id, outcome in ``y``, the banks' columns, and ``test``; shape (rows, …).
        partner: the partner's columns in the same order.
    """

    directory: Path
    folder: Path
    rows: int
    holdout: int
    bank: pd.DataFrame
    partner: pd.DataFrame

    @property
    def outcome(self) -> NDArray[np.int64]:
        """Outcomes of the hold-out, in order."""
        return self.bank["y"][self.bank["test"] == 1].to_numpy(dtype=np.int64)


def prepare(data: Path, work: Path, rows: int) -> Task:
    """Write the task's files below ``work``; the first rows by a stated seed.

    Args:
        data: folder of the data sets.
        work: an empty folder.
        rows: of all banks together.
    """
    bank = pd.read_parquet(data / "default_credit_bank.parquet")
    partner = pd.read_parquet(data / "default_credit_partner.parquet").set_index("id")
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(bank))
    strangers = bank.iloc[order[rows : rows + rows // STRANGERS]]["id"]
    bank = bank.iloc[order[:rows]].reset_index(drop=True)
    directory, folder = work / "directory", work / "peers"
    directory.mkdir()
    folder.mkdir()
    bank.to_parquet(directory / "bank.parquet")
    listed = pd.concat([bank["id"], strangers]).sample(frac=1.0, random_state=SEED)
    partner.loc[listed].reset_index().to_parquet(directory / "partner.parquet")
    (directory / dataset.MANIFEST).write_text(manifest())
    made = dataset.load(directory)
    names = [party.name for party in made.parties if party.role == "bank"]
    salt = split_salt(proposal_for(names, made.contract(), "peers", seed=SEED), "")

    def flagged(table: pd.DataFrame) -> pd.DataFrame:
        chosen = is_holdout(table["id"].astype(str).tolist(), salt, 0.3)
        return table.assign(test=chosen.astype(int))

    bank, aligned = flagged(bank), flagged(partner.loc[bank["id"]].reset_index())
    bank.to_csv(folder / "bank.csv", index=False)
    aligned.to_csv(folder / "partner_aligned.csv", index=False)
    flagged(partner.loc[listed].reset_index()).to_csv(folder / "partner.csv", index=False)
    return Task(directory, folder, rows, int(bank["test"].sum()), bank, aligned)


def manifest() -> str:
    """Return the data directory's manifest."""
    text = 'version = 1\nname = "default-credit"\nconsortium = "peers"\nid_type = "opaque"\nmin_rows = 100\n'
    for number in range(1, BANKS + 1):
        text += (
            f'[[parties]]\nname = "bank-{number}"\nrole = "bank"\nfile = "bank.parquet"\nid = "id"\nlabel = "y"\n'
            f'rows = {{ part = {number}, of = {BANKS}, by = "hash" }}\n'
        )
    for name, role, columns in (("shop", "e-commerce", range(5)), ("bureau", "government", range(5, 10))):
        listed = ", ".join(f'"x{number}"' for number in columns)
        text += f'[[parties]]\nname = "{name}"\nrole = "{role}"\nfile = "partner.parquet"\nid = "id"\n'
        text += f"columns = [{listed}]\n"
    return text
