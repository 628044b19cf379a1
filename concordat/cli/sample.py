"""``concordat sample``: write a synthetic economy of small enterprises."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class TableFormat(StrEnum):
    """How tables are written."""

    csv = "csv"
    parquet = "parquet"


def sample(
    out: Annotated[Path, typer.Option(help="Folder to write; made if it isn't there.")],
    enterprises: Annotated[int, typer.Option(min=300, help="Enterprises that are a bank's client.")] = 24_000,
    banks: Annotated[int, typer.Option(min=1, max=20, help="How many banks share them out.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Public; the same seed gives the same bytes.")] = 7,
    format: Annotated[TableFormat, typer.Option(help="How tables are written.")] = TableFormat.csv,  # noqa: A002
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an earlier economy.")] = False,
) -> None:
    """Write a made-up economy: a table per bank and partner, the data contract, and a manifest.

    \b
    Examples:
      concordat sample --out economy
      concordat demo --data economy
    """
    from concordat.economy import write_economy

    economy = write_economy(
        out, count=enterprises, banks=banks, seed=seed, kind=TableFormat(format).value, replace=replace
    )
    for party, rows in economy.rows.items():
        share = f", {economy.defaults[party] / rows:.1%} defaults" if party in economy.defaults else ""
        typer.echo(f"{party}: {rows:,} enterprises{share}", err=True)
    typer.echo(f"Written to {out}. No row describes a real enterprise.", err=True)
