"""The demo's chapter on the ledger: two banks race for one invoice, and the same invoice comes again in other clothes.

Everything is real and in processes of its own: an embedded chain that begins with its contracts, two member banks that
replay it and co-sign, and five institutions' services. The race is run by two command lines at once.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from concordat.ledger_stand import Stand
from protocol.errors import ConcordatError, LedgerError

Tell = Callable[[str], None]

SHARE = 60
"""Per cent of the receivable that each bank asks for: one of them gets it."""

SELLER, BUYER = "91350100M000100Y43", "91440300708461136T"
_COMMAND = (sys.executable, "-P", "-c", "from concordat.cli.app import main; main()", "ledger")
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
"""ASCII to full-width forms."""


def run(directory: Path, tell: Tell = lambda _: None, *, keep: bool = False) -> dict[str, Any]:
    """Play the chapter and return what happened.

    Args:
        directory: where the ledger lives; one that is there already is used again, with another invoice.
        tell: called with a line for people at each step.
        keep: leave the ledger running.

    Returns:
        ``claim``, ``timeline``, ``race`` (winner, loser and the loser's problem), ``duplicate`` (problem and whether
        the earlier registrant was alerted), ``audit``, ``seconds``.

    Raises:
        ConcordatError: the ledger did not come up, or did not do what it must.
    """
    stand, began = Stand(directory), time.monotonic()
    if not stand.made:
        tell("Founding a ledger: chain with contracts, two member banks, five institutions.")
        stand.create()
    try:
        started = 0.0 if stand.supervisor.alive() else stand.up(tell=tell)
        seconds = {"start_up": round(started, 2)}
        story = _play(stand, tell, seconds)
        seconds["total"] = round(time.monotonic() - began, 2)
        return {**story, "seconds": seconds}
    finally:
        if not keep:
            stand.down()


def lines(chapter: Mapping[str, Any]) -> list[str]:
    """Return the chapter in a few lines for people."""
    race, duplicate, audit = chapter["race"], chapter["duplicate"], chapter["audit"]
    alerted = "was alerted" if duplicate["alerted"] else "was NOT alerted"
    return [
        f"Ledger: claim {chapter['claim'][:12]}… confirmed by its obligor; both banks ask for {SHARE} %.",
        f"  {race['winner']} wins; {race['loser']} reads: {race['problem']['detail']} [{race['problem']['title']}]",
        f"  The same invoice as a CSV row with full-width digits: {duplicate['problem']['title']}; "
        f"the earlier registrant {alerted}.",
        f"  Index and chain: {len(audit['differences'])} differences at block {audit['height']}.",
    ]


def _play(stand: Stand, tell: Tell, seconds: dict[str, float]) -> dict[str, Any]:
    supplier, core = stand.service("supplier"), stand.service("core")
    began = time.monotonic()
    invoice = _invoice()
    body = {"document": json.dumps(invoice), "source": "invoice.json"}
    claim = str(supplier.post("/v1/receivables", body)["claim"])
    supplier.anchored(claim)
    asked = supplier.post(f"/v1/receivables/{claim}/requests/confirm", {"to": "core"})
    core.post(f"/v1/requests/{asked['id']}/accept")
    _must(core.settled(asked["id"]))
    supplier.reaches(claim, lambda found: bool(found["state"] == "confirmed"))
    seconds["confirm"] = round(time.monotonic() - began, 2)
    tell(f"The supplier registered an invoice, the core enterprise confirmed it ({seconds['confirm']} s).")
    for bank in ("bank-a", "bank-b"):
        supplier.post(f"/v1/receivables/{claim}/requests/pledge", {"to": bank, "share": SHARE})
    began = time.monotonic()
    race = _race(stand.directory, claim)
    seconds["race"] = round(time.monotonic() - began, 2)
    tell(f"{race['winner']} won the race, {race['loser']} was refused ({seconds['race']} s).")
    duplicate = _duplicate(stand, claim, invoice)
    tell("The same invoice in another format was recognised.")
    return {
        "claim": claim,
        "race": race,
        "duplicate": duplicate,
        "timeline": supplier.get(f"/v1/receivables/{claim}")["timeline"],
        "audit": stand.service("bank-a").get("/v1/audit"),
    }


def _race(directory: Path, claim: str) -> dict[str, Any]:
    """Have both banks pledge from two processes at once."""
    running = {
        bank: subprocess.Popen(
            [*_COMMAND, "pledge", claim, "--as", bank, "--dir", str(directory), "--format", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for bank in ("bank-a", "bank-b")
    }
    answers, codes = {}, {}
    for bank, process in running.items():
        answers[bank] = json.loads(process.communicate(timeout=120)[0] or "{}")
        codes[bank] = process.returncode
    winners = [bank for bank, code in codes.items() if code == 0]
    losers = [bank for bank, code in codes.items() if code == LedgerError.exit_code]
    if len(winners) != 1 or len(losers) != 1:
        raise LedgerError("CHAPTER_RACE", "Not exactly one of two pledges was taken.")
    return {"winner": winners[0], "loser": losers[0], "share": SHARE, "problem": answers[losers[0]]}


def _duplicate(stand: Stand, claim: str, invoice: Mapping[str, str]) -> dict[str, Any]:
    """Offer the same document as a row of CSV, and look whether its registrant hears of it."""
    supplier = stand.service("supplier")
    try:
        supplier.post("/v1/receivables", {"document": _disguised(invoice), "source": "export.csv"})
    except ConcordatError as error:
        problem = error.problem()
    else:
        raise LedgerError("CHAPTER_DUPLICATE", "The same document was registered twice.")
    found = supplier.reaches(
        claim, lambda one: any(each["event"] == "DuplicateNoticed" for each in one["timeline"])
    )
    return {"problem": problem, "alerted": bool(found)}


def _invoice() -> dict[str, str]:
    today = date.today()
    return {
        "seller": SELLER,
        "buyer": BUYER,
        "number": "2431" + str(secrets.randbelow(10**16)).zfill(16),
        "issued": today.isoformat(),
        "due": (today + timedelta(days=90)).isoformat(),
        "currency": "CNY",
        "amount": "100000.00",
    }


def _disguised(invoice: Mapping[str, str]) -> str:
    """Return an invoice as CSV: Chinese heads, code and number apart, full-width digits, spaces, another date form."""
    issued, due = (date.fromisoformat(invoice[name]) for name in ("issued", "due"))
    number = invoice["number"]
    rows = {
        "销售方": invoice["seller"].translate(_WIDE),
        "购买方": f"{invoice['buyer'][:8]} {invoice['buyer'][8:]}",
        "发票代码": number[:12].translate(_WIDE),
        "发票号码": f"{number[12:16]} {number[16:]}",
        "开票日期": f"{issued.year}年{issued.month}月{issued.day}日",
        "到期日": f"{due.year}/{due.month}/{due.day}",
        "价税合计": "100,000".translate(_WIDE),
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, rows)
    writer.writeheader()
    writer.writerow(rows)
    return text.getvalue()


def _must(request: Mapping[str, Any]) -> None:
    if request["state"] != "done":
        problem = request.get("problem", {})
        raise LedgerError(str(problem.get("title", "CHAPTER_REFUSED")), str(problem.get("detail", "refused")))
