"""The data contract: what each role must bring before a job may use its table.

A consortium signs one contract. It has one dataset per role; a dataset names the fields, their types,
ranges and declared levels, and what happens to a missing value. Institutions map their own tables to it
(``node.ingest``); a job's manifest names the contract by its digest.

Specification: the document is JSON, UTF-8. Its digest is ``protocol.canonical.digest("data-contract",
document)``: SHA-256 over the length-prefixed kind and the RFC 8785 bytes of the document with all defaults
written out.

Invariants: names are unique within a dataset; one dataset per role; a category declares its levels, so that
every party encodes it alike without looking at another's table; only banks hold a label.

What each party learns: the contract, which holds no borrower's data. Not protected: that an institution of
a role holds such fields at all. Levels and ranges are published, so whoever writes them must not copy them
from rows that are confidential.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic import (
    Field as Setting,
)

from protocol.canonical import digest
from protocol.errors import ConfigurationError

Role = Literal["bank", "e-commerce", "government"]
IdType = Literal["uscc", "opaque"]
FieldType = Literal["number", "category", "flag", "date"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Field(_Document):
    """One column that a dataset must bring."""

    name: Name = Setting(description="Stable name, lower-case letters, digits and underscores.")
    type: FieldType = Setting(
        description="number: a finite decimal. category: one of `levels`. flag: 0 or 1. date: a calendar day."
    )
    unit: str = Setting(default="", max_length=40, description="Unit of a number: CNY, share, days, count.")
    levels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=120)], ...] = Setting(
        default=(), max_length=512, description="All values that a category may take."
    )
    minimum: float | None = Setting(default=None, description="Smallest number allowed, itself included.")
    maximum: float | None = Setting(default=None, description="Largest number allowed, itself included.")
    missing: Literal["allowed", "refused"] = Setting(
        default="allowed", description="Whether a cell may be empty."
    )
    dimension: str = Setting(
        default="", max_length=40, description="Data class it belongs to: tax, court, registry …"
    )
    frequency: Literal["once", "daily", "weekly", "monthly", "quarterly", "yearly"] = Setting(
        default="monthly", description="How often its source brings it up to date."
    )
    sensitivity: Literal["C1", "C2", "C3"] = Setting(
        default="C2", description="Class after JR/T 0171: C3 is the most sensitive."
    )
    description_en: str = Setting(default="", max_length=400, description="What it means, in English.")
    description_zh: str = Setting(default="", max_length=400, description="What it means, in Chinese.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.type == "category") != bool(self.levels):
            raise ValueError("a category declares levels, and nothing else does")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("a level is declared twice")
        if any(level != level.strip() for level in self.levels):
            raise ValueError("a level begins or ends with a space")
        if self.type != "number" and not (self.minimum is None and self.maximum is None):
            raise ValueError("only a number has a minimum or a maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the minimum is above the maximum")
        return self


class Dataset(_Document):
    """What the institutions of one role must bring: one row per enterprise."""

    role: Role = Setting(description="Whose table this is.")
    name: Title = Setting(description="What people call it.")
    id_type: IdType = Setting(
        description="uscc: Unified Social Credit Code (GB 32100-2015), checked. opaque: any text."
    )
    label: Name | None = Setting(
        default=None, description="Name of the outcome, 0 or 1 with 1 the default. Banks only."
    )
    fields: tuple[Field, ...] = Setting(
        min_length=1, max_length=500, description="The columns, in this order."
    )
    min_rows: int = Setting(default=1, ge=1, description="Fewer clean rows than this are refused.")
    max_age_days: int | None = Setting(
        default=None, ge=1, description="A table whose reporting day is older than this is refused as stale."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [field.name for field in self.fields] + ([self.label] if self.label else [])
        if len(set(names)) != len(names):
            raise ValueError("a field name is declared twice")
        if (self.role == "bank") != (self.label is not None):
            raise ValueError("a bank's dataset names its label, and a partner's has none")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in the contract's order, without the label."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """Return the field called `name`.

        Raises:
            ConfigurationError: the dataset has no such field (``CONTRACT_UNKNOWN_FIELD``).
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise ConfigurationError(
            "CONTRACT_UNKNOWN_FIELD",
            f'the dataset "{self.name}" ({self.role}) has no field {name!r}',
            nearest(name, self.names),
        )


class DataContract(_Document):
    """The signed document: one dataset per role."""

    version: int = Setting(default=1, ge=1, description="Raised with each amendment.")
    consortium: Title = Setting(description="The consortium that agreed on it.")
    name: Title = Setting(description="What people call this contract.")
    datasets: tuple[Dataset, ...] = Setting(min_length=1, max_length=3, description="One per role.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        roles = [dataset.role for dataset in self.datasets]
        if len(set(roles)) != len(roles):
            raise ValueError("a role has two datasets")
        return self

    def document(self) -> dict[str, Any]:
        """Return the JSON document with all defaults written out: what is signed and digested."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical document, in hex: what a manifest and an approval name."""
        return digest("data-contract", self.document())

    def dataset_for(self, role: str) -> Dataset:
        """Return the dataset that institutions of `role` must bring.

        Raises:
            ConfigurationError: the contract asks nothing of that role (``CONTRACT_NO_ROLE``).
        """
        for dataset in self.datasets:
            if dataset.role == role:
                return dataset
        have = ", ".join(dataset.role for dataset in self.datasets)
        raise ConfigurationError(
            "CONTRACT_NO_ROLE",
            f'the contract "{self.name}" has no dataset for the role {role!r}',
            f"It has: {have}.",
        )

    def by_dimension(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Return, for each data class, the (role, field name) pairs that belong to it: the view by owner."""
        view: dict[str, list[tuple[str, str]]] = {}
        for dataset in self.datasets:
            for field in dataset.fields:
                view.setdefault(field.dimension or dataset.role, []).append((dataset.role, field.name))
        return {dimension: tuple(pairs) for dimension, pairs in view.items()}


def parse(document: bytes | str, source: str = "the data contract") -> DataContract:
    """Read a contract from its JSON text.

    Args:
        document: UTF-8 JSON.
        source: what to call it in an error, usually the file's name.

    Raises:
        ConfigurationError: it is no valid contract (``CONTRACT_INVALID``); every mistake is listed.
    """
    try:
        return DataContract.model_validate_json(document)
    except ValidationError as error:
        raise explain(error, DataContract, source, "CONTRACT_INVALID") from None


def schema() -> dict[str, Any]:
    """Return the contract's JSON Schema (draft 2020-12), as published in ``docs/schemas``."""
    return published(DataContract, "data-contract")


def published(model: type[BaseModel], kind: str) -> dict[str, Any]:
    """Return `model`'s JSON Schema under its draft and a stable identifier."""
    body = model.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:concordat:schema:{kind}",
        **body,
    }


def nearest(name: str, candidates: Iterable[str], otherwise: str = "It has") -> str:
    """Return a hint with the candidates closest to `name`, or a short list of all."""
    known = sorted(set(candidates))
    folded = {re.sub(r"[^0-9a-z]", "", item.lower()) or item: item for item in known}
    wanted = re.sub(r"[^0-9a-z]", "", name.lower()) or name
    close = [folded[key] for key in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)]
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return f"{otherwise}: {shown or 'nothing'}."


def explain(error: ValidationError, model: type[BaseModel], source: str, code: str) -> ConfigurationError:
    """Turn a validation error into one screen: each line a place and what is wrong there, never a value.

    Args:
        error: what pydantic raised for `model`.
        model: root of the document, for the keys that would have been valid.
        source: what to call the document, usually a file's name.
        code: stable code of the resulting error.
    """
    lines, hints = [], []
    document = model.model_json_schema()
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    for problem in problems[:20]:
        place = ".".join(str(part) for part in problem["loc"]) or "the document"
        what = problem["msg"].removeprefix("Value error, ").removesuffix(" permitted").lower()
        if problem["type"] == "extra_forbidden":
            what = "unknown key"
            known = _keys(document, problem["loc"][:-1])
            hints.append(nearest(str(problem["loc"][-1]), known, "Keys are"))
        lines.append(f"  {place}: {what}")
    if len(problems) > 20:
        lines.append(f"  and {len(problems) - 20} more")
    return ConfigurationError(
        code, f"{source} is not valid:\n" + "\n".join(lines), " ".join(dict.fromkeys(hints))
    )


def _keys(document: dict[str, Any], place: tuple[int | str, ...]) -> set[str]:
    """Return the keys that a JSON Schema knows at a place of the document."""
    nodes = _branches(document, document)
    for step in place:
        inner = []
        for node in nodes:
            if isinstance(step, str) and step in node.get("properties", {}):
                inner.append(node["properties"][step])
            inner += [
                node[key] for key in ("items", "additionalProperties") if isinstance(node.get(key), dict)
            ]
        # A step that isn't a key of the document names a member of a union, which the branches hold anyway.
        nodes = [branch for node in inner for branch in _branches(node, document)] or nodes
    return {key for node in nodes for key in node.get("properties", {})}


def _branches(node: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _branches(document["$defs"][node["$ref"].rsplit("/", 1)[-1]], document)
    if "anyOf" in node:
        return [branch for option in node["anyOf"] for branch in _branches(option, document)]
    return [node]
