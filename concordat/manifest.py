"""The file ``dataset.toml``: which party holds which columns and rows of which table.

A guide stands in ``docs/demo-data.md``, the schema in ``docs/schemas/dataset.schema.json``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from pydantic import Field as Setting

from concordat.inference import FieldRule
from protocol.contract import IdType, Role, Title, published

MANIFEST = "dataset.toml"
PartyName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Scalar = str | int | float | bool


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(_Document):
    """A share of a file's rows, for one table that several parties divide."""

    part: int = Setting(ge=1, description="Which share, counting from 1.")
    of: int = Setting(ge=2, description="How many shares there are.")
    by: Literal["hash", "position"] = Setting(
        default="hash",
        description="hash: SHA-256 of the id, the same for any order of rows. position: rows in turn.",
    )
    salt: str = Setting(
        default="", description="Text before the id in the hash; another salt gives another split."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.part > self.of:
            raise ValueError("part is above of")
        return self


class Where(_Document):
    """The rows with certain values in one column, for parties of a different mix."""

    column: str = Setting(description="Column of the file.")
    values: tuple[Scalar, ...] = Setting(min_length=1, description="Its values that belong to this party.")


class Party(_Document):
    """One institution and its table."""

    name: PartyName = Setting(description="Name of the party: lower-case letters, digits, hyphens.")
    role: Role = Setting(description="bank, e-commerce or government.")
    file: str = Setting(description="CSV or Parquet file, relative to the manifest.")
    id: str = Setting(description="Column with the enterprise's id.")
    label: str | None = Setting(default=None, description="Banks: column with the outcome.")
    positive: tuple[Scalar, ...] = Setting(
        default=(), description="Values of the label that are a default; else it is 0 / 1."
    )
    negative: tuple[Scalar, ...] = Setting(
        default=(), description="Values that are no default. When given, any other value is refused."
    )
    columns: tuple[str, ...] | Literal["rest"] = Setting(
        default="rest", description="This party's columns, or all that are neither id nor label nor dropped."
    )
    drop: tuple[str, ...] = Setting(
        default=(), description='With columns = "rest": columns to leave out, such as leaks.'
    )
    rows: Split | Where | None = Setting(default=None, description="Which rows of the file; all by default.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.role == "bank") != (self.label is not None):
            raise ValueError("a bank names its label, and a partner has none")
        if self.negative and not self.positive:
            raise ValueError("negative is given without positive")
        return self


class Consents(_Document):
    """Consent codes that the demonstration issues for these data."""

    refused: float = Setting(default=0.03, ge=0, lt=1, description="Share of enterprises that never consent.")
    withdrawn: float = Setting(default=0.02, ge=0, lt=1, description="Share that withdraws its consent.")


class Manifest(_Document):
    """The file ``dataset.toml``."""

    version: Literal[1] = Setting(description="Version of this format.")
    name: Title = Setting(description="What people call these data.")
    consortium: Title = Setting(default="demo", description="Name of the consortium in the contract.")
    id_type: IdType = Setting(description="uscc or opaque; one for all parties, since they are joined by it.")
    contract: str | None = Setting(
        default=None, description="Data contract (JSON), relative to the manifest; else inferred."
    )
    min_rows: int = Setting(
        default=100, ge=1, description="Inferred contract: fewer rows than this are refused."
    )
    parties: tuple[Party, ...] = Setting(min_length=1, description="Who takes part.")
    consents: Consents | None = Setting(
        default=None, description="Issue consent codes; without it banks may ask for any client."
    )
    fields: dict[Role, dict[str, FieldRule]] = Setting(
        default_factory=dict,
        description="What is known of columns, by role and column name; the rest is inferred.",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [party.name for party in self.parties]
        if len(set(names)) != len(names):
            raise ValueError("two parties have the same name")
        if not any(party.role == "bank" for party in self.parties):
            raise ValueError("there is no bank")
        return self


def schema() -> dict[str, Any]:
    """Return the manifest's JSON Schema (draft 2020-12), as published in ``docs/schemas``."""
    return published(Manifest, "dataset")
