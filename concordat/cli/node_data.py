"""``concordat node data check``: the node's own table against the data contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, facts, say, show, table
from protocol.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from node.ingest import Table


def check(
    rejects: Annotated[
        Path | None,
        typer.Option(help="Set bad rows aside and write them to this CSV, which holds your own cells."),
    ] = None,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Read the table that the configuration names, check it against the data contract, and print the report.

    Nothing leaves this machine. Exit code 3 if the table breaks the contract.

    \b
    Examples:
      concordat node data check
      concordat node data check --rejects rejects.csv
    """
    from node.ingest import Mapping, read, write_rejects
    from protocol.contract import parse

    made = place.load_node(config)
    data = made.data
    if data is None:
        raise ConfigurationError(
            "NODE_NO_DATA", f"{config} names no table", "Add a [data] section with file and id."
        )
    path = made.path(data.contract)
    try:
        contract = parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigurationError(
            "CONTRACT_UNREADABLE", f"{path}: {error.strerror}", "Put the consortium's data contract there."
        ) from None
    file = made.path(data.file)
    mapping = Mapping(path=file, id=data.id, label=data.label, columns=data.columns)
    dataset = contract.dataset_for(made.node.role)
    read_table = read(file, dataset, mapping, rejects="refuse" if rejects is None else "set-aside")
    if rejects is not None:
        write_rejects(read_table, rejects)
    answer = report_of(read_table, contract.digest)
    show(format, answer, lambda: describe(answer))
    if rejects is not None:
        say(f"Rejected rows are in {rejects}. They are your own cells: keep the file inside.")
        if answer["rows_rejected"]:
            say("The node itself refuses a table with bad rows: mend them at the source, or leave them out.")
            raise typer.Exit(DataError.exit_code)


def report_of(table_: Table, contract: str) -> dict[str, Any]:
    """Return what was read: counts and names, no values."""
    report = table_.source
    return {
        "file": report.file,
        "format": report.format,
        "encoding": report.encoding,
        "contract": contract,
        "rows_read": report.rows_read,
        "rows_clean": report.rows_clean,
        "rows_rejected": report.rows_rejected,
        "problems": [
            {"code": problem.code, "field": problem.field, "what": problem.what, "rows": problem.count}
            for problem in report.problems
        ],
        "missing": {name: count for name, count in report.missing.items() if count},
        "empty_fields": list(report.empty_fields),
        "unused_columns": report.unused,
    }


def describe(answer: dict[str, Any]) -> str:
    """Return the report for people."""
    kind = answer["format"] + (f", {answer['encoding']}" if answer["encoding"] else "")
    parts = [
        facts(
            [
                ("file", f"{answer['file']} ({kind})"),
                ("rows read", f"{answer['rows_read']:,}"),
                ("clean", f"{answer['rows_clean']:,}"),
                ("rejected", f"{answer['rows_rejected']:,}"),
                ("columns not asked for", answer["unused_columns"]),
                ("contract", answer["contract"]),
            ]
        )
    ]
    if answer["problems"]:
        rows = [(p["code"], p["field"], f"{p['rows']:,}", p["what"]) for p in answer["problems"]]
        parts.append(table(("problem", "field", "rows", "what"), rows))
    if answer["missing"]:
        rows_ = [(name, f"{count:,}") for name, count in answer["missing"].items()]
        parts.append(table(("field", "empty cells"), rows_))
    if answer["empty_fields"]:
        parts.append("Without a single value: " + ", ".join(answer["empty_fields"]))
    return "\n\n".join(parts)
