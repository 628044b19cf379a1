"""``concordat node doctor``: PASS, or the problem and its fix, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, say, show


def doctor(config: place.NodeFile = place.NODE, format: FormatOption = Format.text) -> None:  # noqa: A002
    """Examine the node and what it depends on: PASS, or the problem and its fix. Exit code 1 when something fails.

    Reads only, sends nothing about anybody; safe while the node runs.

    \b
    Examples:
      concordat node doctor
      concordat node doctor --format json
    """
    from concordat.cli.checkup import examine

    findings = list(examine(Path(config)))
    failed = sum(finding.state == "FAIL" for finding in findings)
    answer: dict[str, Any] = {
        "healthy": not failed,
        "checks": [
            {"name": f.name, "state": f.state, "what": f.what, **({"fix": f.fix} if f.fix else {})}
            for f in findings
        ],
    }
    width = max(len(finding.name) for finding in findings)
    show(format, answer, lambda: "\n".join(finding.line(width) for finding in findings))
    if failed:
        say(f"{failed} of {len(findings)} checks failed.")
        raise typer.Exit(1)
    say("Everything that was checked is well.")
