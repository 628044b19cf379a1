"""What the demo's options ask of the tour, and how it shows the stages with partners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from concordat import demo as tour
from concordat.cli.app import app
from concordat.cli.progress import DONE, JOINT, WORKING, Progress, line

RESULT = Path(__file__).parent / "report_partners.json"
BANKS = ("bank-1", "bank-2", "bank-3")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tour.Options]:
    seen: list[tour.Options] = []

    def run(options: tour.Options, tell: Any) -> Any:
        seen.append(options)
        return json.loads(RESULT.read_text("utf-8"))

    monkeypatch.setattr(tour, "run", run)
    return seen


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, ["demo", *words])


class TestOptions:
    def test_partners_take_part_under_epsilon_one(self, asked: list[tour.Options]) -> None:
        assert invoke().exit_code == 0
        assert (asked[0].partners, asked[0].partner_epsilon) == (True, 1.0)

    def test_they_can_be_left_out(self, asked: list[tour.Options]) -> None:
        assert invoke("--no-partners").exit_code == 0
        assert asked[0].partners is False

    def test_their_epsilon_can_be_chosen(self, asked: list[tour.Options]) -> None:
        assert invoke("--partner-epsilon", "2.5").exit_code == 0
        assert asked[0].partner_epsilon == 2.5

    @pytest.mark.parametrize("epsilon", ["0", "101"])
    def test_no_epsilon_means_none_and_none_is_unbounded(
        self, asked: list[tour.Options], epsilon: str
    ) -> None:
        assert invoke("--partner-epsilon", epsilon).exit_code != 0
        assert asked == []

    def test_a_private_model_leaves_them_out(self, asked: list[tour.Options]) -> None:
        assert invoke("--release", "dp").exit_code == 0
        assert asked[0].partners is False

    def test_a_private_model_with_partners_is_refused_and_not_made_without_them(
        self, asked: list[tour.Options]
    ) -> None:
        assert invoke("--release", "dp", "--partners").exit_code != 0
        assert asked == []

    def test_report_and_tables_speak_of_partners(self, asked: list[tour.Options], tmp_path: Path) -> None:
        done = invoke("--report", str(tmp_path))
        assert "What each party learned in this job" in done.output
        assert "with_partners" in json.loads((tmp_path / "card.json").read_text("utf-8"))


def event(at: float, step: str, kind: str, party: str = "", **detail: Any) -> dict[str, Any]:
    return {"at": at, "step": step, "party": party, "kind": kind, "detail": detail}


def opened(at: float, parties: tuple[str, ...], *, centring: bool = True) -> list[dict[str, Any]]:
    made = [event(at, "session", "asked", party) for party in parties]
    made += [event(at + 1, "roster", "sent", bank) for bank in BANKS]
    made.append(event(at + 2, "roster", "opened"))
    return [*made, event(at + 5, "centring", "opened")] if centring else made


class TestProgress:
    def test_stages_with_partners_run_from_centring_to_publication(self) -> None:
        progress = Progress()
        for one in opened(0.0, (*BANKS, "city", "neutral")):
            progress.take(one)
        assert progress.steps[JOINT].state == WORKING
        progress.take(event(45.0, "published", "opened"))
        progress.take(event(47.0, JOINT, "ended", "city", told={"published": True, "seconds": {}}))
        progress.take(event(47.0, JOINT, "ended", "neutral", told={"given": ["city"]}))
        step = progress.steps[JOINT]
        assert (step.state, step.seconds, step.note) == (DONE, 40.0, "city published")
        assert step.parties == {*BANKS, "city", "neutral"}

    def test_a_job_of_banks_has_no_such_step(self) -> None:
        progress = Progress()
        for one in opened(0.0, BANKS):
            progress.take(one)
        assert JOINT not in progress.steps

    def test_a_second_attempt_goes_on_counting(self) -> None:
        progress = Progress()
        everybody = (*BANKS, "city", "neutral")
        events = [*opened(0.0, everybody), event(45.0, "published", "opened"), event(50.0, "attempt", "void")]
        events += [*opened(100.0, everybody, centring=False), event(112.0, "published", "opened")]
        for one in events:
            progress.take(one)
        assert progress.steps[JOINT].seconds == 50.0

    def test_a_line_says_whether_a_partner_published(self) -> None:
        told = event(0.0, JOINT, "ended", "city", told={"published": False})
        assert "city ended published nothing" in line(told)
