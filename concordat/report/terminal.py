"""The result on a terminal: four tables, a sentence under each, readable without knowing the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from concordat.report import findings, sections
from concordat.report.result import check
from concordat.report.sections import Table
from concordat.report.words import Words, same

PLAIN = {
    "comparison": "AUC: chance that a borrower who defaulted got the higher risk (0.5 a coin, 1 perfect); KS: "
    "widest gap between good and bad.",
    "steps": "Rounds are the banks' training; steps overlap, since one that waits for another holds its time too.",
    "links": "Updates travel masked: who adds them up can't read one.",
    "egress": "From each node's own signed log, written before the bytes left.",
}


def text(result: Mapping[str, Any], console: Console) -> None:
    """Print the result's tables.

    Args:
        result: the result of a job.
        console: where to; standard error for people, so that standard output stays JSON.

    Raises:
        DataError: ``REPORT_RESULT`` or ``REPORT_HISTOGRAM``: it isn't a result.
    """
    found = check(result)
    comparison = sections.comparison(found)
    _show(console, "How good the score is", comparison.table)
    _say(
        console,
        PLAIN["comparison"],
        findings.headline(found).en,
        findings.against_ceiling(found).en,
        findings.interval_note(found).en,
    )
    steps, links = sections.steps(found), sections.links(found)
    _show(console, "How long it took", steps.table)
    _say(console, PLAIN["steps"])
    if found["links"]:
        _show(console, "What went over each link", links.table)
        _say(console, links.sentence.en, PLAIN["links"])
    if found["egress"]:
        _show(console, "What left each node", sections.egress_table(found))
        _say(console, PLAIN["egress"])
    unseen = findings.overview(found)[2]
    console.print(Text(unseen.title.en, style="bold"))
    _say(console, unseen.body.en, findings.privacy_note(found).en)


def _show(console: Console, title: str, table: Table) -> None:
    made = RichTable(
        title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False
    )
    for i, head in enumerate(table.head):
        right = i > 0 and i not in table.words
        made.add_column(Text(_one(head)), justify="right" if right else "left", no_wrap=right)
    for i, row in enumerate(table.rows):
        # Text, not str: names of others must not be read as markup.
        made.add_row(*[Text(_one(cell)) for cell in row], style="bold" if i in table.strong else "")
    console.print(made)


def _one(words: Words) -> str:
    """Return the English words without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() else "�" for c in same(words).en)


def _say(console: Console, *sentences: str) -> None:
    said: Sequence[str] = [_one(sentence) for sentence in sentences]
    console.print(Text(" ".join(said)))
    console.print()
