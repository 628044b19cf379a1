"""The data directory: a small manifest that turns any tables into a consortium's.

``concordat demo --data DIR`` reads ``DIR/dataset.toml`` (schema: ``docs/schemas/dataset.schema.json``; a
guide in ``docs/demo-data.md``). The manifest says which party holds which columns and rows of which file.
From it come the data contract (`DataDirectory.contract`, read from a file or inferred) and, for each party,
a file of its own (`DataDirectory.materialise`): a node gets nothing else.

Only a demo or a benchmark may do this: whoever runs it holds all parties' tables. In a real consortium each
institution maps its own tables (`node.ingest.Mapping`) to a contract that was agreed on, not inferred.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from concordat.consents import Consents
from concordat.inference import FieldRule, Part, infer_fields, prepared, quotient, slug
from concordat.manifest import MANIFEST, Manifest, Party, Scalar, Split, Where, schema
from node import cells
from node.ingest import Mapping, Table, check
from node.tables import Block, Source, open_table
from protocol import contract as contracts
from protocol.contract import DataContract
from protocol.errors import ConfigurationError

__all__ = ["MANIFEST", "DataDirectory", "Manifest", "Party", "load", "schema"]


@dataclass(frozen=True)
class DataDirectory:
    """A manifest and the folder that it describes."""

    directory: Path
    manifest: Manifest

    @property
    def parties(self) -> tuple[Party, ...]:
        """The parties, in the manifest's order."""
        return self.manifest.parties

    def party(self, name: str) -> Party:
        """Return a party by name.

        Raises:
            ConfigurationError: there is none (``DATASET_NO_PARTY``).
        """
        for party in self.parties:
            if party.name == name:
                return party
        known = [party.name for party in self.parties]
        raise ConfigurationError(
            "DATASET_NO_PARTY",
            f"{MANIFEST} has no party {name!r}",
            contracts.nearest(name, known, "Parties are"),
        )

    def contract(self) -> DataContract:
        """Return the data contract: the manifest's own, or an inferred one.

        Raises:
            ConfigurationError: a column that the manifest names isn't there, a column's type can't be
                inferred, or the contract's file is wrong.
            DataError: a file can't be read.
        """
        return self._inferred[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was inferred, one line per column, for people."""
        return self._inferred[1]

    def table(self, party: str | Party) -> Table:
        """Return a party's rows, checked; a mistake is told with the original file's lines.

        Raises:
            DataError: the rows break the contract.
            ConfigurationError: see `contract`.
        """
        who = self.party(party) if isinstance(party, str) else party
        source, mapping = self._cut(who)
        return check(source, self.contract().dataset_for(who.role), mapping)

    def consents(self) -> Consents | None:
        """Return the consent codes that the manifest asks for, None if it doesn't."""
        asked = self.manifest.consents
        if asked is None:
            return None
        ids = {party.name: frozenset(self.table(party).frame.index) for party in self.parties}
        banks = {party.name for party in self.parties if party.role == "bank"}
        return Consents(
            {name: found for name, found in ids.items() if name in banks},
            {name: found for name, found in ids.items() if name not in banks},
            asked.refused,
            asked.withdrawn,
        )

    def materialise(self, party: str | Party, out: Path) -> Mapping:
        """Write the party's own table into `out` and return how it maps to the contract.

        Args:
            party: whose table.
            out: folder of that party; made if it isn't there.

        Raises:
            DataError: the rows break the contract.
            ConfigurationError: see `contract`.
        """
        who = self.party(party) if isinstance(party, str) else party
        table = self.table(who)
        mapping = self._mapping(who, out / f"{who.name}.parquet")
        columns: dict[str, Any] = {mapping.id: pa.array(table.frame.index, pa.string())}
        if mapping.label is not None:
            columns[mapping.label] = pa.array(table.label)
        for name in table.frame.columns:
            columns[str(name)] = pa.array(table.frame[name], from_pandas=True)
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), mapping.path)
        return mapping

    @cached_property
    def _inferred(self) -> tuple[DataContract, tuple[str, ...]]:
        manifest = self.manifest
        if manifest.contract is not None:
            path = self.directory / manifest.contract
            contract = contracts.parse(_read(path, f"{MANIFEST}, contract"), path.name)
            self._check_contract(contract)
            return contract, (f"The data contract comes from {path.name}; nothing was inferred.",)
        datasets, notes = [], []
        for role in dict.fromkeys(party.role for party in self.parties):
            members = [party for party in self.parties if party.role == role]
            parts = [Part(party.name, self._open(party), self._columns(party)) for party in members]
            fields, said = infer_fields(role, parts, manifest.fields.get(role, {}))
            label = slug(members[0].label) if members[0].label else None
            datasets.append(
                contracts.Dataset(
                    role=role,
                    name=f"{manifest.name}: {role}"[:120],
                    id_type=manifest.id_type,
                    label=label and _free(label, {field.name for field in fields}),
                    fields=fields,
                    min_rows=manifest.min_rows,
                )
            )
            notes += [f"{role}: {line}" for line in said]
        return DataContract(
            consortium=manifest.consortium, name=manifest.name, datasets=tuple(datasets)
        ), tuple(notes)

    def _check_contract(self, contract: DataContract) -> None:
        for party in self.parties:
            dataset = contract.dataset_for(party.role)
            if dataset.id_type != self.manifest.id_type:
                raise ConfigurationError(
                    "DATASET_ID_TYPE",
                    f"{MANIFEST} says id_type = {self.manifest.id_type!r}, and the contract's dataset for"
                    f" {party.role} says {dataset.id_type!r}",
                    "All parties are joined by one type of id.",
                )

    def _open(self, party: Party) -> Source:
        return open_table(
            self.directory / party.file, likely=[party.id, *([party.label] if party.label else [])]
        )

    def _place(self, party: Party) -> str:
        return f"{MANIFEST}, parties.{self.parties.index(party)} ({party.name})"

    def _columns(self, party: Party) -> tuple[str, ...]:
        """Return the party's feature columns; refuse a name that the file doesn't have, or has twice."""
        header = self._open(party).header
        asked = {"id": [party.id], "label": [party.label] if party.label else [], "drop": party.drop}
        asked["columns"] = [] if party.columns == "rest" else list(party.columns)
        asked["rows.column"] = [party.rows.column] if isinstance(party.rows, Where) else []
        rules = self.manifest.fields.get(party.role, {})
        for key, names in asked.items():
            for name in names:
                if header.count(name) != 1:
                    what = "doesn't have" if name not in header else "has twice"
                    raise ConfigurationError(
                        "DATASET_UNKNOWN_COLUMN",
                        f"{self._place(party)}, {key}: {party.file} {what} the column {name!r}",
                        contracts.nearest(name, header, "The file has"),
                    )
        special = {party.id, party.label, *party.drop}
        chosen = (
            [name for name in header if name not in special]
            if party.columns == "rest"
            else list(party.columns)
        )
        for name in chosen:
            if name in special or chosen.count(name) > 1 or header.count(name) > 1:
                raise ConfigurationError(
                    "DATASET_COLUMN_TWICE",
                    f"{self._place(party)}: the column {name!r} has two uses, or {party.file} has it twice",
                    "A column is id, label, or one feature. Rename one of two columns of the same name.",
                )
        for key, rule in rules.items():
            for name in [key] if rule.of is None or rule.over is None else [rule.of, rule.over]:
                if name not in (chosen if rule.of is None else header):
                    raise ConfigurationError(
                        "DATASET_UNKNOWN_COLUMN",
                        f"{MANIFEST}, fields.{party.role}.{key}: {party.name} has no column {name!r}",
                        contracts.nearest(name, chosen, "Its columns are"),
                    )
        return tuple(chosen)

    def _name(self, party: Party, column: str) -> str:
        rule = self.manifest.fields.get(party.role, {}).get(column)
        return (rule.name if rule else None) or slug(column)

    def _mapping(self, party: Party, path: Path) -> Mapping:
        dataset = self.contract().dataset_for(party.role)
        return Mapping(
            path=path,
            id=_free("enterprise_id", {*dataset.names, dataset.label or ""}),
            label=dataset.label,
            columns={name: name for name in dataset.names},
        )

    def _cut(self, party: Party) -> tuple[Source, Mapping]:
        """Return the party's rows and columns of its file, under the contract's names."""
        source = self._open(party)
        dataset = self.contract().dataset_for(party.role)
        mapping = self._mapping(party, source.path)
        rules = self.manifest.fields.get(party.role, {})
        columns = {self._name(party, name): name for name in self._columns(party)}
        readers: dict[str, Callable[[pa.RecordBatch], pa.Array]] = {mapping.id: _as_is(party.id)}
        inputs = {party.id, *columns.values()}
        if party.label and mapping.label:
            readers[mapping.label] = _through(party.label, _label(party))
            inputs.add(party.label)
        for key, rule in rules.items():
            if rule.of is not None and rule.over is not None:
                readers[rule.name or slug(key)] = _ratio(rule.of, rule.over)
                inputs |= {rule.of, rule.over}
        for field in dataset.fields:
            if field.name in columns:
                column = columns[field.name]
                readers[field.name] = _through(column, prepared(field, rules.get(column, FieldRule())))
        if isinstance(party.rows, Where):
            inputs.add(party.rows.column)
        select = _selector(party, self.manifest.id_type)

        def transform(block: Block) -> Block:
            rows = pa.array(select(block))
            arrays = [read(block.cells) for read in readers.values()]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(readers)).filter(rows)
            return Block(batch, block.positions[np.asarray(rows)])

        return source.through(transform, inputs), mapping


def load(directory: Path, *, salt: str | None = None) -> DataDirectory:
    """Read a data directory's manifest.

    Args:
        directory: folder that holds ``dataset.toml``.
        salt: replaces the salt of every split by hash, for another division of the same rows.

    Raises:
        ConfigurationError: there is no manifest or it is wrong; names file, key and the nearest valid key.
    """
    path = directory / MANIFEST
    try:
        raw = tomllib.loads(_read(path, "The data directory").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise ConfigurationError("DATASET_INVALID", f"{path.name} is not TOML: {where}") from None
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise contracts.explain(error, Manifest, path.name, "DATASET_INVALID") from None
    if salt is not None:
        manifest = manifest.model_copy(
            update={"parties": tuple(_salted(party, salt) for party in manifest.parties)}
        )
    return DataDirectory(directory, manifest)


def _as_is(column: str) -> Callable[[pa.RecordBatch], pa.Array]:
    return lambda batch: batch.column(column)


def _through(column: str, read: Callable[[pa.Array], pa.Array]) -> Callable[[pa.RecordBatch], pa.Array]:
    return lambda batch: read(batch.column(column))


def _ratio(above: str, below: str) -> Callable[[pa.RecordBatch], pa.Array]:
    return lambda batch: quotient(batch.column(above), batch.column(below))


def _salted(party: Party, salt: str) -> Party:
    if not isinstance(party.rows, Split):
        return party
    return party.model_copy(update={"rows": party.rows.model_copy(update={"salt": salt})})


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "DATASET_UNREADABLE",
            f"{what}: {path.name} can't be read ({error.strerror})",
            f"Look at {path}; docs/demo-data.md shows what a data directory holds.",
        ) from None


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _label(party: Party) -> Callable[[pa.Array], pa.Array]:
    """Return how to turn the party's outcomes into 0 and 1; what isn't listed stays and is refused later."""
    if not party.positive:
        return lambda array: array
    yes = pa.array([_spelled(value) for value in party.positive], pa.string())
    no = pa.array([_spelled(value) for value in party.negative], pa.string())

    def read(array: pa.Array) -> pa.Array:
        text = pc.utf8_trim_whitespace(cells.as_text(array))
        other = pc.equal(text, "") if not party.negative else pc.invert(pc.is_in(text, value_set=no))
        return pc.if_else(pc.is_in(text, value_set=yes), "1", pc.if_else(other, text, "0"))

    def strict(array: pa.Array) -> pa.Array:
        # An unlisted "1" or "0" must not pass for an outcome.
        text = read(array)
        listed = pc.is_in(
            pc.utf8_trim_whitespace(cells.as_text(array)), value_set=pa.concat_arrays([yes, no])
        )
        empty = pc.equal(text, "")
        return pc.if_else(pc.or_(listed, empty), text, "unlisted")

    return strict if party.negative else read


def _spelled(value: Scalar) -> str:
    return str(cells.as_text(pa.array([value]))[0].as_py())


def _selector(party: Party, id_type: str) -> Callable[[Block], NDArray[np.bool_]]:
    """Return which records of a block are the party's."""
    rows = party.rows
    if rows is None:
        return lambda block: np.ones(len(block.positions), dtype=bool)
    if isinstance(rows, Where):
        chosen = pa.array([_spelled(value) for value in rows.values], pa.string())

        def by_value(block: Block) -> NDArray[np.bool_]:
            text = pc.utf8_trim_whitespace(cells.as_text(block.cells.column(rows.column)))
            return np.asarray(pc.is_in(text, value_set=chosen), dtype=bool)

        return by_value
    if rows.by == "position":
        return lambda block: np.asarray(block.positions % rows.of == rows.part - 1)
    salt = rows.salt.encode() + b"\0"

    def by_hash(block: Block) -> NDArray[np.bool_]:
        ids = cells.enterprise(block.cells.column(party.id), id_type).values.to_pylist()
        shares = [
            int.from_bytes(hashlib.sha256(salt + (i or "").encode()).digest()[:8], "big") % rows.of
            for i in ids
        ]
        return np.equal(np.array(shares, dtype=np.int64), rows.part - 1)

    return by_hash
