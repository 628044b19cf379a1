"""``python -m ledger.service``: run an institution's ledger service."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.engine.serving import serve, sole
from ledger.service.config import load
from protocol.errors import ConcordatError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="An institution's ledger service.",
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(help="The service's configuration, a TOML file.")]


@app.command()
def run(file: File) -> None:
    """Run the service until a signal; prints one JSON line once it answers."""
    from ledger.page.routes import mount
    from ledger.service.api import application
    from ledger.service.runtime import Runtime

    config = load(file)
    with sole(config.base / "run"):
        runtime = Runtime(config)
        ready = {"institution": runtime.kernel.name, "roles": list(config.institution.roles)}
        application_ = application(runtime)
        mount(application_, runtime)
        asyncio.run(serve(application_, runtime.listen, ready, runtime.run()))


@app.command()
def audit(file: File) -> None:
    """Compare the event index with the chain; names every difference, and fails if there is one."""
    from ledger.index.audit import audit as compare
    from ledger.service.kernel import build

    kernel = build(load(file))
    report = compare(kernel.engine, kernel.reader, kernel.where.contract)
    typer.echo(json.dumps(report.to_json(), indent=2))
    if report.differences:
        raise typer.Exit(1)


@app.command()
def reindex(file: File) -> None:
    """Empty the event index of a stopped service; it reads the chain again when it runs. Documents stay."""
    from ledger.index.tables import connect, empty

    config = load(file)
    with sole(config.base / "run"):
        engine = connect(config.database_url(config.database))
        empty(engine)
        engine.dispose()
    typer.echo("The index is empty.")


def main() -> None:
    """Run the command line; errors go to stderr as code, message and hint."""
    try:
        app()
    except ConcordatError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
