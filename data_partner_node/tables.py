"""A partner's own table as the joint stages use it: columns, components, PRF outputs under each bank's key.

What is computed from the whole table (components, hashes to the group, outputs) is kept within an epoch of the keys, so
that a retraining costs nothing of it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from node.ingest import Table
from node.keep import Keep, shelf_of
from protocol import voprf
from protocol.contract import Dataset
from protocol.group import Element
from protocol.subscore import Basis
from protocol.voprf import OUTPUT_BYTES, KeyPair

Consents = Mapping[str, Mapping[str, bytes | None]]
"""By bank, by canonical id: the consent code that was issued, None where it was withdrawn."""


@dataclass(frozen=True)
class Serving:
    """What the partner looks up for a bank: its PRF inputs, and which rows of the table they belong to."""

    rows: NDArray[np.int64]
    inputs: list[bytes]


class PartnerTable:
    """The partner's rows.

    Args:
        table: the ingested table.
        dataset: what the data contract asks of this role.
        keep: where keys and an epoch's outputs lie.
        consents: codes issued to enterprises, empty where the contract demands none.
    """

    def __init__(self, table: Table, dataset: Dataset, keep: Keep, consents: Consents) -> None:
        self._table, self._dataset, self._keep, self._consents = table, dataset, keep, consents
        self._hashed: dict[bytes, Element] = {}

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return len(self._table.frame)

    @property
    def digest(self) -> str:
        """Digest of the table's content."""
        return self._table.digest

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Numbers as float64, levels as text; what the components are found from."""
        frame: pd.DataFrame = self._table.frame
        found: dict[str, NDArray[Any]] = {}
        for field in self._dataset.fields:
            if field.type in ("number", "flag"):
                found[field.name] = frame[field.name].to_numpy(dtype=np.float64, na_value=np.nan)
            elif field.type == "category":
                found[field.name] = frame[field.name].astype("object").fillna("").to_numpy(dtype="U")
        return found

    def basis(self, components: int) -> Basis:
        """Return the components of the whole table, found once per table."""
        name = f"basis.{components}.{self._table.digest[:32]}"
        kept = self._keep.get("basis", name)
        if kept is not None:
            return Basis.from_dict(json.loads(kept))
        basis = Basis.fit(self.columns, components)
        self._keep.put("basis", name, json.dumps(basis.to_dict()).encode())
        return basis

    # -- keys -----------------------------------------------------------------------------------------------

    def key(self, purpose: str, epoch: str, bank: str) -> KeyPair:
        """Return the VOPRF key of a purpose, epoch and bank."""
        return voprf.derive_key_pair(self._seed(), voprf.key_info(purpose, epoch, bank))

    def _seed(self) -> bytes:
        seed = self._keep.get("voprf", "seed")
        if seed is None:
            seed = secrets.token_bytes(voprf.SEED_BYTES)
            self._keep.put("voprf", "seed", seed)
        return seed

    # -- outputs --------------------------------------------------------------------------------------------

    def asked_of(self, bank: str, consent: bool) -> Serving:
        """Return the rows that a bank may find: all, or those whose enterprises gave it a code that stands."""
        ids: Sequence[str] = list(self._table.frame.index)
        kind = self._dataset.id_type
        if not consent:
            return Serving(np.arange(len(ids)), [voprf.enterprise_input(kind, one) for one in ids])
        codes = self._consents.get(bank, {})
        rows = [row for row, one in enumerate(ids) if codes.get(one) is not None]
        return Serving(
            np.array(rows, dtype=np.int64),
            [voprf.enterprise_input(kind, ids[row], codes[ids[row]]) for row in rows],
        )

    def outputs(self, purpose: str, epoch: str, bank: str, inputs: Sequence[bytes]) -> list[bytes]:
        """Return the outputs of inputs under a bank's key, computing only what the epoch hasn't seen.

        Args:
            purpose: training or serving.
            epoch: of the keys.
            bank: whose key.
            inputs: the table's own, shape (n,).
        """
        shelf = shelf_of(epoch)
        name = f"own.{purpose}.{bank}"
        kept = self._keep.get(shelf, name) or b""
        width = 32 + OUTPUT_BYTES
        known = {kept[at : at + 32]: kept[at + 32 : at + width] for at in range(0, len(kept), width)}
        marks = [sha256(one).digest() for one in inputs]
        new = [place for place, mark in enumerate(marks) if mark not in known]
        if new:
            key = self.key(purpose, epoch, bank)
            wanted = [inputs[place] for place in new]
            found = voprf.evaluate(key, wanted, self._points(wanted))
            known |= {marks[place]: output for place, output in zip(new, found, strict=True)}
            self._keep.put(shelf, name, b"".join(mark + output for mark, output in known.items()))
        return [known[mark] for mark in marks]

    def _points(self, inputs: Sequence[bytes]) -> list[Element]:
        """Return H(input) for each input; shared between banks and purposes."""
        new = [one for one in dict.fromkeys(inputs) if one not in self._hashed]
        self._hashed.update(zip(new, voprf.hash_inputs(new), strict=True))
        return [self._hashed[one] for one in inputs]
