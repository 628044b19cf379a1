"""Writing the economy: one table per party, the data contract, and the manifest that ties them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from concordat.economy import views
from concordat.economy.fields import LABEL, data_contract
from concordat.economy.population import BLOCK, CLIENTS, STRANGERS, Enterprises, enterprises, stream
from protocol.contract import DataContract, Field
from protocol.errors import ConfigurationError

ID = "uscc"
STRANGERS_SHARE = 0.30
MANIFEST = "dataset.toml"
CONTRACT = "contract.json"
E_COMMERCE, GOVERNMENT = "e-commerce", "government"
Format = Literal["csv", "parquet"]
_MANY_BANKS = 20
_MANY_ENTERPRISES = 100_000_000


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


@dataclass(frozen=True)
class Economy:
    """What was written: the folder and, per party, its rows and (banks) its defaults."""

    directory: Path
    rows: dict[str, int]
    defaults: dict[str, int]


def party_tables(*, count: int, banks: int = 3, seed: int = 7) -> Iterator[tuple[str, pa.Table]]:
    """Yield the parties' tables in blocks: (party, rows); a party comes many times.

    Args:
        count: enterprises that are clients of at least one bank.
        banks: how many banks.
        seed: of the economy; public.
    """
    contract = data_contract()
    for kind, total in ((CLIENTS, count), (STRANGERS, round(count * STRANGERS_SHARE))):
        for block in range(ceil(total / BLOCK)):
            who = enterprises(seed, kind, block, banks)
            inside = np.arange(block * BLOCK, (block + 1) * BLOCK) < total
            for bank in range(banks if kind == CLIENTS else 0):
                mine = np.flatnonzero((who.bank == bank) | (who.second == bank))
                rng = stream(seed, 3, block, bank)
                clients = who.where(mine)
                columns = views.bank_view(clients, rng)
                outcome = np.where(clients.bank == bank, clients.default, clients.second_default).astype(
                    np.float64
                )
                table = _table(contract, "bank", clients, columns, outcome)
                yield f"bank-{bank + 1}", _shuffled(table, inside[mine], rng)
            for name, view, known, key in (
                (E_COMMERCE, views.commerce_view, who.in_commerce, 4),
                (GOVERNMENT, views.government_view, who.in_government, 5),
            ):
                rng = stream(seed, key, kind, block)
                table = _table(contract, name, who, view(who, rng), None)
                yield name, _shuffled(table, known & inside, rng)


REFUSED, WITHDRAWN = 0.03, 0.02


def write_economy(
    out: Path,
    *,
    count: int = 24_000,
    banks: int = 3,
    seed: int = 7,
    kind: Format = "csv",
    replace: bool = False,
) -> Economy:
    """Write tables, data contract and manifest into a folder; the same arguments give the same bytes.

    Args:
        out: the folder; made if it isn't there.
        count: enterprises that are clients of at least one bank.
        banks: how many banks.
        seed: of the economy; public.
        kind: how tables are written.
        replace: whether files of an earlier economy may be overwritten.

    Raises:
        ConfigurationError: a number is out of range (``SAMPLE_RANGE``), the folder has a manifest already
            (``SAMPLE_EXISTS``) or can't be written (``SAMPLE_UNWRITABLE``).
    """
    for name, value, low, high in (
        ("enterprises", count, 300, _MANY_ENTERPRISES),
        ("banks", banks, 1, _MANY_BANKS),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise ConfigurationError("SAMPLE_RANGE", f"{name} must lie between {low} and {high}")
    manifest = out / MANIFEST
    if manifest.exists() and not replace:
        raise ConfigurationError(
            "SAMPLE_EXISTS",
            f"{out} holds a data directory already",
            "Choose another folder, or say --replace.",
        )
    rows: dict[str, int] = {}
    defaults: dict[str, int] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)  # a folder without a manifest is no data directory: it comes last
        with ExitStack() as stack:
            writers: dict[str, _Writer] = {}
            for party, table in party_tables(count=count, banks=banks, seed=seed):
                if party not in writers:
                    writers[party] = stack.enter_context(_writer(out / f"{party}.{kind}", table.schema, kind))
                writers[party].write_table(table)
                rows[party] = rows.get(party, 0) + len(table)
                if LABEL in table.column_names:
                    defaults[party] = defaults.get(party, 0) + int(np.asarray(table.column(LABEL)).sum())
        (out / CONTRACT).write_text(data_contract().model_dump_json(indent=2) + "\n", encoding="utf-8")
        manifest.write_text(_manifest(list(rows), count, banks, seed, kind), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError("SAMPLE_UNWRITABLE", f"{out} can't be written ({error.strerror})") from None
    return Economy(out, rows, defaults)


def _writer(path: Path, schema: pa.Schema, kind: Format) -> Any:
    if kind == "parquet":
        return pq.ParquetWriter(path, schema, compression="zstd")
    return pacsv.CSVWriter(path, schema, write_options=pacsv.WriteOptions(quoting_style="needed"))


def _table(
    contract: DataContract,
    role: str,
    who: Enterprises,
    columns: views.Columns,
    outcome: NDArray[np.float64] | None,
) -> pa.Table:
    """Return the columns as a typed table, in the contract's order."""
    arrays: dict[str, pa.Array] = {ID: pa.array(who.code.tolist(), pa.string())}
    if outcome is not None:
        arrays[LABEL] = pa.array(outcome, pa.int8())
    for field in contract.dataset_for(role).fields:
        arrays[field.name] = _array(field, columns[field.name])
    return pa.table(arrays)


def _array(field: Field, values: NDArray[Any]) -> pa.Array:
    if field.type == "category":
        return pa.array(values.tolist(), pa.string())
    whole = field.type == "flag" or field.unit == "count"
    return pa.array(values, pa.float64(), from_pandas=True).cast(pa.int64() if whole else pa.float64())


def _shuffled(table: pa.Table, keep: NDArray[np.bool_], rng: np.random.Generator) -> pa.Table:
    """Return the chosen rows in an order of the party's own, so that nobody can join by position."""
    rows = rng.permutation(len(table))
    return table.take(pa.array(rows[keep[rows]])).combine_chunks()


def _manifest(parties: list[str], count: int, banks: int, seed: int, kind: Format) -> str:
    lines = [
        "# A synthetic economy: no row describes a real enterprise.",
        f"# concordat sample --enterprises {count} --banks {banks} --seed {seed} --format {kind}",
        "version = 1",
        f'name = "Synthetic economy, {count} enterprises, seed {seed}"',
        'consortium = "Synthetic consortium"',
        'id_type = "uscc"',
        f'contract = "{CONTRACT}"',
        "",
        "# Enterprises give their banks a code from each partner; some refuse, some withdraw.",
        "[consents]",
        f"refused = {REFUSED}",
        f"withdrawn = {WITHDRAWN}",
    ]
    for party in sorted(parties, key=lambda party: (not party.startswith("bank-"), len(party), party)):
        role = "bank" if party.startswith("bank-") else party
        lines += [
            "",
            "[[parties]]",
            f'name = "{party}"',
            f'role = "{role}"',
            f'file = "{party}.{kind}"',
            f'id = "{ID}"',
        ]
        lines += [f'label = "{LABEL}"'] if role == "bank" else []
    return "\n".join(lines) + "\n"
