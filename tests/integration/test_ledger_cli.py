"""The demo's chapter on the ledger, and the command line over the ledger that it leaves running."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_processes import needs_engine
from typer.testing import CliRunner

from concordat import chapter_ledger
from concordat.cli.app import app
from concordat.ledger_stand import Stand

pytestmark = [pytest.mark.integration, needs_engine]

INVOICE = {
    "seller": "91350100M000100Y43",
    "buyer": "91440300708461136T",
    "issued": "2026-01-02",
    "amount": "5000.00",
    "currency": "CNY",
}


@pytest.fixture(scope="module")
def chapter() -> Iterator[tuple[Path, dict[str, Any], list[str]]]:
    # A Unix socket's path must stay short, which pytest's own temporary directories don't promise.
    home, told = Path(tempfile.mkdtemp(prefix="ls-")) / "ledger", list[str]()
    try:
        yield home, chapter_ledger.run(home, told.append, keep=True), told
    finally:
        Stand(home).remove()
        shutil.rmtree(home.parent, ignore_errors=True)


class Line:
    """The command line over one ledger."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["ledger", *words, "--dir", str(self.home)])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.output

    def json(self, *words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["ledger", *words, "--dir", str(self.home), "--format", "json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def line(chapter: tuple[Path, dict[str, Any], list[str]]) -> Line:
    return Line(chapter[0])


def test_case_47_two_banks_race_and_exactly_one_wins(
    chapter: tuple[Path, dict[str, Any], list[str]],
) -> None:
    _, found, told = chapter
    race = found["race"]
    assert {race["winner"], race["loser"]} == {"bank-a", "bank-b"}
    assert race["problem"]["title"] == "LEDGER_OVER_CAPACITY"
    assert "40 %" in race["problem"]["detail"]
    assert race["winner"] not in json.dumps(race["problem"])
    assert found["duplicate"]["problem"]["title"] == "LEDGER_TAG_TAKEN"
    assert found["duplicate"]["alerted"]
    assert [each["event"] for each in found["timeline"]][:2] == ["Confirmed", "Pledged"]
    assert found["audit"]["differences"] == []
    assert json.loads(json.dumps(found)) == found, "it goes into the demo's JSON"
    lines = chapter_ledger.lines(found)
    assert len(lines) == 4
    assert "was alerted" in lines[2]
    assert told


def test_a_life_from_the_command_line(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "invoices.csv"
    rows = [{**INVOICE, "number": f"INV-{number}", "due": "2027-01-30"} for number in (1, 2)]
    file.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    claim = line.json("register", str(file), "--row", "2", "--as", "supplier")["claim"]
    short = claim[:8]
    assert "Asked core" in line("confirm", short, "--as", "supplier", "--to", "core")
    assert line.json("confirm", short, "--as", "core")["final"]
    line("pledge", short, "--as", "supplier", "--to", "bank-a", "--share", "70")
    assert line.json("pledge", short, "--as", "bank-a", "--share", "50")["final"], "a bank may take less"
    status = line.json("status", short, "--as", "bank-a")
    assert status["shares"]["pledged"] == 500_000
    line("settle", short, "--as", "core", "--to", "bank-a", "--amount", "1000")
    assert "Final." in line("settle", short, "--as", "bank-a")
    assert "Final." in line("release", short, "--as", "bank-a")
    line("transfer", short, "--as", "supplier", "--to", "bank-b")
    assert line.json("transfer", short, "--as", "bank-b")["kind"] == "transfer"
    assert "Transferred" in line("status", claim, "--as", "bank-b")
    assert "Index and chain agree." in line("audit", "--as", "bank-b")
    table = line("status")
    assert all(name in table for name in ("platform", "supplier", "core", "bank-a", "bank-b", "ok"))
    assert short in line("status", "--as", "supplier")


def test_refusals_and_mistakes_have_codes_and_no_traceback(line: Line, tmp_path: Path) -> None:
    known = line.json("status", "--as", "bank-a")["receivables"][0]["claim"]
    assert line.json("release", known, "--as", "core", code=5)["title"] == "ROLE_MISSING"
    assert line.json("status", "deadbeef", "--as", "bank-a", code=2)["title"] == "CLAIM_UNKNOWN"
    assert line.json("status", "--as", "nobody", code=2)["title"] == "INSTITUTION"
    assert line.json("confirm", known, "--as", "core", code=5)["title"] == "NOTHING_ASKED"
    assert line.json("register", str(tmp_path / "none.json"), code=2)["title"] == "FILE_ERROR"
    file = tmp_path / "half.json"
    file.write_text(json.dumps({**INVOICE, "number": "1"}))
    problem = line.json("register", str(file), code=3)
    assert problem["title"] == "INVOICE_MISSING"
    assert problem["detail"] == "half.json, field due: it is missing or empty."
    file.write_bytes(b"\xff\xfe")
    assert line.json("register", str(file), code=2)["title"] == "FILE_ERROR"
    assert line.json("up", code=2)["title"] == "ALREADY_UP"
    empty = Line(tmp_path / "nothing")
    assert empty.json("status", code=2)["title"] == "STAND_MISSING"
    assert empty.json("down", code=2)["title"] == "STAND_MISSING"


def test_one_acts_for_ones_own_service(line: Line) -> None:
    url, token = Stand(line.home).service("supplier").url, str(line.home / "supplier/operator.token")
    own = ["ledger", "--service", url, "--token-file", token]
    result = CliRunner().invoke(app, [*own, "status", "--format", "json"])
    assert json.loads(result.stdout) == line.json("status", "--as", "supplier")
    other = str(line.home / "core/operator.token")
    wrong = ["ledger", "--service", url, "--token-file", other, "status", "--format", "json"]
    result = CliRunner().invoke(app, wrong)
    assert (result.exit_code, json.loads(result.stdout)["title"]) == (5, "TOKEN")
    result = CliRunner().invoke(app, ["ledger", "--service", url, "status"])
    assert result.exit_code == 2


def test_it_comes_up_again_with_everything_it_knew(line: Line) -> None:
    before = line.json("status", "--as", "supplier")
    line("down")
    assert "down" in line("status")
    answer = line.json("up")
    assert {each["state"] for each in answer["institutions"]} == {"ok"}
    after = line.json("status", "--as", "supplier")
    assert after["receivables"] == before["receivables"]
    assert after["requests"] == before["requests"]
