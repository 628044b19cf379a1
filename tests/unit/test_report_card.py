"""The model card, the terminal's tables, the figures that a report adds, and how numbers are written."""

from __future__ import annotations

import copy
import io
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from concordat import report
from concordat.report import figures as fig
from concordat.report import findings, words

RESULT = json.loads((Path(__file__).parent / "report_result.json").read_text("utf-8"))


def private() -> dict[str, Any]:
    made = copy.deepcopy(RESULT)
    made["release"] = {"kind": "dp", "epsilon": 8.0, "delta": 1e-5}
    made["privacy"] = [{"kind": "dp", "epsilon": 7.81}, {"kind": "dp", "epsilon": 7.92}]
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (words.figure(0.78149), "0.781"),
        (words.signed(-0.0061), "−0.006"),
        (words.signed(0.0004), "0.000"),
        (words.signed(0.0121), "+0.012"),
        (words.percent(0.10834), "10.8 %"),
        (words.count(1234567), "1,234,567"),
        (words.seconds(9.994), "9.99 s"),
        (words.seconds(9.996), "10.0 s"),
        (words.size(0), "0 B"),
        (words.size(999), "999 B"),
        (words.size(1000), "1.0 kB"),
        (words.size(999_960), "1.0 MB"),
        (words.size(2_949_553), "2.9 MB"),
        (words.size(3_100_000_000_000), "3,100.0 GB"),
    ],
)
def test_numbers_are_written_one_way(made: str, expected: str) -> None:
    assert made == expected


def test_schema_takes_the_example_and_refuses_a_share_above_one() -> None:
    jsonschema.validate(RESULT, report.schema())
    wrong = copy.deepcopy(RESULT)
    wrong["ks"]["pooled"] = 1.5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, report.schema())


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5))
def test_delong_over_cells_equals_delong_over_rows(cells: list[tuple[int, int]]) -> None:
    good, bad = [g for g, _ in cells], [b for _, b in cells]
    if sum(good) < 2 or sum(bad) < 2:
        return
    g = np.repeat(np.arange(len(cells)), good)
    b = np.repeat(np.arange(len(cells)), bad)
    psi = (b[:, None] > g).astype(float) + 0.5 * (b[:, None] == g)
    expected = np.sqrt(psi.mean(1).var(ddof=1) / len(b) + psi.mean(0).var(ddof=1) / len(g))
    assert fig.auc_error(good, bad) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_against_published_value() -> None:
    # Newcombe (1998), table I: 81 of 263.
    interval = fig.rate_interval(81 / 263, 263)
    assert (round(interval.lower, 4), round(interval.upper, 4)) == (0.2553, 0.3662)
    assert fig.rate_interval(0.0, 20).lower == 0.0


@given(st.lists(st.integers(0, 300), min_size=1, max_size=70).filter(lambda rows: sum(rows) > 0))
def test_bands_hold_every_row_once(rows: list[int]) -> None:
    groups = fig._groups(rows)
    assert 1 <= len(groups) <= fig.BANDS
    covered = list(itertools.chain.from_iterable(groups))
    assert covered == list(range(covered[0], covered[-1] + 1))
    assert sum(rows[i] for i in covered) == sum(rows)
    assert all(sum(rows[i] for i in group) > 0 for group in groups)


def test_card_holds_the_registered_numbers_and_their_interval() -> None:
    card = report.card_json(RESULT)
    json.dumps(card, allow_nan=False)
    found = card["figures"]["auc"]
    assert found["value"] == RESULT["figures"]["auc"]
    low, high = found["interval_95"]
    assert low < found["value"] < high
    assert "DeLong" in found["method"]
    assert card["approvals"] == {
        "statement": findings.approval_note(RESULT).en,
        "banks": ["bank-1", "bank-2", "bank-3"],
        "validator": None,
    }
    assert card["digests"]["model"] == RESULT["model"]["digest"]
    assert sum(bin_["rows"] for bin_ in card["calibration"]["bins"]) == RESULT["figures"]["holdout_rows"]
    assert [p["name"] for p in card["parties"] if not p["took_part"]] == ["market", "city"]


def test_markdown_card_has_every_obligation() -> None:
    text = report.card_markdown(RESULT)
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        "Purpose",
        "Data and parties",
        "Features and training",
        "Privacy: who learned what",
        "Figures",
        "Calibration",
        "Where it fails, and what was not tested",
        "Approvals",
        "Digests",
    ]
    assert f"**{RESULT['auc']['federated']:.3f}**" in text
    assert RESULT["model"]["digest"] in text


def test_markdown_card_takes_no_markup_from_names() -> None:
    made = copy.deepcopy(RESULT)
    made["consortium"] = "a | b\n# c [d](http://e) <i>f</i> `g`"
    text = report.card_markdown(made)
    assert "\n# c" not in text
    assert "<i>" not in text
    assert "http://" not in text
    assert r"\[d\]" in text


def test_private_release_reports_the_largest_epsilon_spent() -> None:
    card = report.card_json(private())
    assert card["privacy"]["epsilon"] == 7.92
    assert "ε = 7.92" in card["privacy"]["statement"]
    assert "not bounded" not in " ".join(card["privacy"]["not_protected"])
    assert report.card_json(RESULT)["privacy"]["epsilon"] is None


@pytest.mark.parametrize(
    ("federated", "said"),
    [(0.9, " better than"), (0.5, " worse than"), (None, "as well as"), (0.002, "slightly better")],
)
def test_headline_follows_the_numbers(federated: float | None, said: str) -> None:
    made = copy.deepcopy(RESULT)
    mean = made["auc"]["bank_only_mean"]
    made["auc"]["federated"] = (
        mean if federated is None else mean + 0.002 if federated == 0.002 else federated
    )
    assert said in findings.headline(made).en


def test_failing_calibration_band_is_named() -> None:
    made = copy.deepcopy(RESULT)
    for cell in made["figures"]["calibration"]["cells"]:
        cell["mean_pd"] = min(1.0, cell["mean_pd"] * 3)
    assert any("overstates the risk" in line.en for line in findings.limitations(made))


def test_terminal_shows_tables_and_takes_no_orders_from_names() -> None:
    made = copy.deepcopy(RESULT)
    made["steps"][0]["step"] = "[red]\x1b[2Jx"
    out = io.StringIO()
    report.text(made, Console(file=out, width=110, force_terminal=False))
    shown = out.getvalue()
    for title in (
        "How good the score is",
        "How long it took",
        "What went over each link",
        "What left each node",
    ):
        assert title in shown
    assert f"{RESULT['auc']['federated']:.3f}" in shown
    assert "[red]" in shown
    assert "\x1b" not in shown
