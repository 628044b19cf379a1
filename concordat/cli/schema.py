"""``concordat schema``: the JSON Schemas of every document that parties exchange or people write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from concordat.cli.output import say


def schema(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write them to, a file each; stdout by default.")
    ] = None,
) -> None:
    """Write every JSON Schema (draft 2020-12).

    \b
    Examples:
      concordat schema --out docs/schemas
    """
    found = schemas()
    if out is None:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, body in found.items():
        (out / f"{name}.schema.json").write_text(rendered(body), "utf-8")
    say(f"{len(found)} schemas in {out}")


def schemas() -> dict[str, dict[str, Any]]:
    """Return all schemas by name."""
    from concordat.cli.job_file import JobFile
    from concordat.manifest import schema as dataset_schema
    from protocol import contract, job

    return {
        "data-contract": contract.schema(),
        "dataset": dataset_schema(),
        "job-file": contract.published(JobFile, "job-file"),
        **job.schemas(),
    }


def rendered(body: dict[str, Any]) -> str:
    """Return a schema as it stands in a file."""
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
