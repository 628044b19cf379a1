"""``concordat demo``: the product tour."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from concordat.cli.output import Format, FormatOption, say
from protocol.errors import ConfigurationError


class ReleaseKind(StrEnum):
    """The privacy of the released model."""

    none = "none"
    dp = "dp"


def demo(
    data: Annotated[
        Path | None, typer.Option(help="A data directory (docs/demo-data.md); a made-up economy by default.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the consortium lives; a temporary one by default.")
    ] = None,
    enterprises: Annotated[int, typer.Option(min=1000, help="Size of the made-up economy.")] = 24_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Public: of the economy, and of a job without privacy.")
    ] = 7,
    release: Annotated[
        ReleaseKind, typer.Option(help="none, or dp: differential privacy.")
    ] = ReleaseKind.none,
    epsilon: Annotated[float, typer.Option(min=0.1, max=100, help="Of a dp release, per enterprise.")] = 8.0,
    partners: Annotated[
        bool | None,
        typer.Option(
            "--partners/--no-partners",
            help="Whether data partners bring their columns in; by default they do, unless the release is dp.",
            show_default=False,
        ),
    ] = None,
    partner_epsilon: Annotated[
        float,
        typer.Option(
            min=0.1, max=100, help="Of the release to each partner, per enterprise's record at the banks."
        ),
    ] = 1.0,
    simulate: Annotated[bool, typer.Option("--simulate", help="The same job in one process.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger/--no-ledger", help="Two banks race for one invoice on a real chain.")
    ] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the consortium running (with --dir).")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write report.html, card.md, card.json and result.json here.")
    ] = None,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Bring up a whole consortium on this machine, train one shared score, and say what came of it.

    \b
    Examples:
      concordat demo --report out
      concordat demo --release dp --epsilon 4
      concordat demo --data my-tables --partner-epsilon 2
      concordat demo --simulate --format json
    """
    if keep and (directory is None or simulate):
        raise ConfigurationError("USAGE", "--keep needs --dir, and processes to keep", "Add --dir var/lab.")
    if partners and release is ReleaseKind.dp:
        raise ConfigurationError(
            "USAGE",
            "a job with partners doesn't offer a private release of the model yet",
            "Leave --partners or --release dp away; what partners read is private by --partner-epsilon.",
        )
    from concordat import demo as tour
    from concordat.cli.progress import display

    options = tour.Options(
        directory=directory,
        data=data,
        enterprises=enterprises,
        seed=seed,
        release=release.value,
        epsilon=epsilon,
        partners=release is not ReleaseKind.dp if partners is None else partners,
        partner_epsilon=partner_epsilon,
        simulated=simulate,
        keep=keep,
        ledger=ledger,
    )
    with display("Concordat demo") as screen:
        result = tour.run(options, screen.take)
    if report is not None:
        write_report(result, report)
        say(f"Report: {report / 'report.html'}")
    if format is Format.json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        from concordat import report as reports

        reports.text(result, Console())
    if keep:
        say(f"It runs on: `concordat status --dir {directory}`, `concordat down --dir {directory}`.")


def write_report(result: dict[str, Any], directory: Path) -> None:
    """Write the page, the card and the plain result."""
    from concordat import report as reports

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.html").write_text(reports.html(result), "utf-8")
    (directory / "card.md").write_text(reports.card_markdown(result), "utf-8")
    for name, content in (("card", reports.card_json(result)), ("result", result)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (directory / f"{name}.json").write_text(text, "utf-8")
