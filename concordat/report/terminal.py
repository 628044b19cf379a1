"""The result on a terminal: a few tables, a sentence under each, readable without knowing the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from concordat.report import facts, findings, learned, partner_sections, partners, sections, traffic
from concordat.report.result import Result, check
from concordat.report.sections import Table
from concordat.report.words import Words, same

PLAIN = {
    "comparison": "AUC: chance that a borrower who defaulted got the higher risk (0.5 a coin, 1 perfect); KS: "
    "widest gap between good and bad.",
    "models": "H is the bank score, H+ the same after as many further rounds as S had; S must beat H+.",
    "spent": "Charged by every bank and the compute party before they sign a release, never refunded.",
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
    if facts.joint(found):
        _partners(console, found)
    steps, links = traffic.steps(found), traffic.links(found)
    _show(console, "How long it took", steps.table)
    _say(console, PLAIN["steps"])
    made = partner_sections.parts(found) if facts.joint(found) else None
    if made is not None:
        _show(console, "Where the partners' time went", made.table)
        _say(console, made.sentence.en)
    if found["links"]:
        _show(console, "What went over each link", links.table)
        _say(console, links.sentence.en, PLAIN["links"])
    if found["egress"]:
        _show(console, "What left each node", traffic.egress_table(found))
        _say(console, PLAIN["egress"])
    if facts.joint(found):
        _show_learned(console, found)
    if "ledger" in found:
        console.print(Text("On the ledger: one receivable, never pledged twice", style="bold"))
        for line in found["ledger"]["lines"]:
            console.print(Text(_one(line).strip()))
        console.print()
    unseen = findings.overview(found)[2]
    console.print(Text(unseen.title.en, style="bold"))
    _say(console, unseen.body.en, findings.privacy_note(found).en)


def _partners(console: Console, result: Result) -> None:
    """Print what partners added, whom they know, what was spent toward them."""
    _show(console, "What the partners' columns add", partner_sections.models(result).table)
    _say(console, PLAIN["models"], partners.gain(result).en)
    coverage = partner_sections.coverage(result)
    _show(console, "Whom the partners know", coverage.table)
    _say(console, coverage.sentence.en)
    _show(console, "Privacy spent toward the partners", partner_sections.spent(result))
    _say(console, PLAIN["spent"])


def _show_learned(console: Console, result: Result) -> None:
    """Print what the kinds of data are, and what each party learned in this job."""
    kinds = partner_sections.kinds(result)
    if kinds is not None:
        _show(console, "What kinds of data left the nodes", kinds.table)
        _say(console, kinds.sentence.en)
    console.print(Text("What each party learned in this job", style="bold"))
    for entry in learned.learned(result):
        line = f"{entry.who.en}: {entry.learned.en}. Not: {entry.hidden.en}."
        console.print(Text(f"- {_one(line)}"))
    console.print()


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
