"""The report of a job with partners: what they added, whom they cover, what was spent, who learned what."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from test_report_page import Page

from concordat import report
from concordat.report import facts, findings, learned, partner_sections, partners, traffic
from protocol.errors import DataError

RESULT: dict[str, Any] = json.loads((Path(__file__).parent / "report_partners.json").read_text("utf-8"))
ALONE: dict[str, Any] = json.loads((Path(__file__).parent / "report_result.json").read_text("utf-8"))


def changed(**keys: Any) -> dict[str, Any]:
    made = copy.deepcopy(RESULT)
    for path, value in keys.items():
        *parents, last = path.split("__")
        place = made
        for name in parents:
            place = place[name]
        place[last] = value
    return made


def without_subscores() -> dict[str, Any]:
    """A job in which no partner published: H serves."""
    made = copy.deepcopy(RESULT)
    figures = made["figures"]
    figures |= {"serving": "h", "promotable": False, "comparison": None}
    for name in ("s", "s_head"):
        del figures["models"][name], made["auc"][name], made["ks"][name]
    for figure in ("auc", "ks"):
        made[figure]["federated"] = made[figure]["h"]
    for partner in made["partners"].values():
        partner |= {"published": False, "used": False}
    return made


def not_better() -> dict[str, Any]:
    made = copy.deepcopy(RESULT)
    compared = {**made["figures"]["comparison"], "difference": 0.004, "lower": -0.002, "upper": 0.01}
    made["figures"] |= {"promotable": False, "comparison": compared}
    made["figures"]["models"]["s"]["comparison"] = compared
    return made


def terminal(result: dict[str, Any], width: int = 200) -> str:
    out = io.StringIO()
    report.text(result, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def said(result: dict[str, Any], who: str) -> learned.Learned:
    return next(entry for entry in learned.learned(result) if entry.who.en.startswith(who))


class TestShape:
    def test_schema_takes_the_example(self) -> None:
        jsonschema.validate(RESULT, report.schema())

    @pytest.mark.parametrize("missing", ["privacy_spent", "coverage"])
    def test_partners_without_what_they_came_to_are_refused(self, missing: str) -> None:
        made = copy.deepcopy(RESULT)
        del made[missing]
        with pytest.raises(DataError, match=missing) as error:
            report.html(made)
        assert error.value.code == "REPORT_RESULT"

    @pytest.mark.parametrize("key", ["h", "h_plus", "pooled_all", "pooled_all_within_banks", "pooled_with"])
    def test_partners_without_the_models_are_refused(self, key: str) -> None:
        made = copy.deepcopy(RESULT)
        del made["auc"][key]
        with pytest.raises(DataError, match="auc doesn't fit"):
            report.html(made)

    def test_coverage_of_another_partner_is_refused(self) -> None:
        made = copy.deepcopy(RESULT)
        made["coverage"]["stranger"] = made["coverage"].pop("government")
        with pytest.raises(DataError, match="coverage"):
            report.html(made)

    def test_a_share_above_one_is_refused(self) -> None:
        made = copy.deepcopy(RESULT)
        made["coverage"]["government"]["bank-1"]["listed"] = 1.2
        with pytest.raises(DataError, match=r"coverage\.government\.bank-1\.listed"):
            report.html(made)


class TestPage:
    def test_is_well_formed_and_has_a_table_beside_every_chart(self) -> None:
        page = Page(report.html(RESULT))
        assert page.tags.count("figure") == 11
        assert set(page.shown) >= {"models", "coverage", "parts", "kinds"}
        for name, shown in page.shown.items():
            assert shown, name
            assert shown <= page.cells[name], name
        assert page.tags.count("caption") == page.tags.count("table") == 15
        assert len(page.ids) == len(set(page.ids))

    def test_asks_for_nothing(self) -> None:
        text = report.html(RESULT)
        page = Page(text)
        assert {"script", "link", "img", "iframe", "a", "use", "image"}.isdisjoint(page.tags)
        assert "://" not in text

    def test_without_partners_nothing_of_them_is_said(self) -> None:
        page = Page(report.html(ALONE))
        assert {"models", "coverage", "parts", "kinds"}.isdisjoint(page.shown)
        text = report.html(ALONE) + report.card_markdown(ALONE) + terminal(ALONE)
        for word in ("H+", "sub-score", "promotable", "coverage", "compute party"):
            assert word not in text, word

    def test_names_of_others_are_escaped(self) -> None:
        evil = "<script>alert(1)</script>|`&"
        made = copy.deepcopy(RESULT)
        for place in ("partners", "privacy_spent", "coverage"):
            made[place][evil] = made[place].pop("government")
        made["auc"]["pooled_with"][evil] = 0.7
        made["card"]["vertical"]["compute"] = evil
        made["links"][0]["classes"] = {evil: 5}
        made["partners"][evil]["asked"] = {evil: {"training": 8, "serving": 8}}
        made["partners"][evil]["seconds"] = {evil: 1.0}
        text = report.html(made)
        Page(text)
        assert "<script" not in text
        assert "<script" not in report.card_markdown(made)

    def test_chart_of_links_is_cut_and_its_table_is_not(self) -> None:
        section = traffic.links(RESULT)
        assert section.chart is not None
        assert len(section.chart.bars) == traffic.MOST_LINKS < len(section.table.rows) == len(RESULT["links"])
        assert "20 largest" in section.sentence.en


class TestModels:
    def test_each_model_stands_with_its_difference_to_h_plus(self) -> None:
        rows = {str(row[0][0]): row for row in partner_sections.models(RESULT).table.rows}
        s = rows[partners.MODELS["s"].en]
        assert s[1] == f"{RESULT['auc']['s']:.3f}"
        assert (s[3], s[4]) == ("+0.032", "+0.022 … +0.042")
        assert s[5].en == "serves; promotable"
        assert rows[partners.MODELS["s_head"].en][3] == "+0.039"
        assert rows[partners.MODELS["h_plus"].en][3] == "–"
        ceilings = [name for name in rows if name.startswith("ceiling")]
        assert len(ceilings) == 4
        assert rows["the same within each bank, mean by rows"][1] == "0.770"

    def test_interval_is_drawn_around_the_model_and_not_around_the_bar(self) -> None:
        chart = partner_sections.models(RESULT).chart
        assert chart is not None
        assert sum(line.style == "whisker shared" for line in chart.lines) == 2

    def test_one_that_beats_the_bar_may_be_promoted(self) -> None:
        assert "beyond chance, so the model may be promoted" in partners.gain(RESULT).en
        assert "may be promoted" in report.html(RESULT)
        assert "can't be promoted" not in report.html(RESULT)

    def test_one_that_does_not_is_said_so_everywhere(self) -> None:
        made = not_better()
        for text in (report.html(made), report.card_markdown(made), terminal(made)):
            assert "NOT promotable" in text
            assert "can't be promoted" in text.replace("&#39;", "'")
        card = report.card_json(made)
        assert card["with_partners"]["promotable"] is False
        assert "can't be promoted" in card["approvals"]["statement"]

    def test_a_missing_verdict_is_no_leave(self) -> None:
        made = copy.deepcopy(RESULT)
        del made["figures"]["promotable"]
        assert facts.promotable(made) is False
        assert facts.promotable(ALONE) is True

    def test_what_the_further_rounds_alone_did_is_not_hidden(self) -> None:
        assert "H, without them, has 0.726, and S is +0.024" in partners.gain(RESULT).en
        assert "without them" not in partners.gain(changed(auc__h=0.71)).en

    def test_without_any_sub_score_h_serves_and_nothing_is_claimed(self) -> None:
        made = without_subscores()
        Page(report.html(made))
        assert "no partner's sub-scores" in partners.gain(made).en.lower()
        assert "published nothing" in report.html(made)
        assert "no sub-score; " in said(made, "bank-1").learned.en
        assert all(row[-1] == "0" for row in partner_sections.coverage(made).table.rows)

    def test_ceiling_is_that_with_the_partners_columns(self) -> None:
        assert "0.770" in findings.against_ceiling(RESULT).en
        assert "0.722" not in findings.against_ceiling(RESULT).en

    def test_calibration_is_said_to_be_before_the_line(self) -> None:
        note = findings.calibration_note(RESULT).en
        assert "slope 0.72, intercept -0.39" in note
        assert "Recalibrate" not in note
        assert "Recalibrate" in findings.calibration_note({**RESULT, "partners": {}}).en


class TestPrivacy:
    def test_table_has_this_release_and_the_total(self) -> None:
        made = copy.deepcopy(RESULT)
        made["privacy_spent"]["government"] |= {"releases": 2, "total_epsilon": 1.469}
        rows = {row[0]: row for row in partner_sections.spent(made).rows}
        assert rows["e-commerce"][1:] == ("1", "1e-05", "0.268", "45.0", "63.7", "1", "1", ("read", "已读取"))
        assert rows["government"][6:8] == ("1.47", "2")

    def test_exact_release_is_called_one(self) -> None:
        made = copy.deepcopy(RESULT)
        exact = dict.fromkeys(("epsilon", "delta", "mu", "sigma", "noise"))
        made["privacy_spent"]["government"] |= exact
        assert "EXACT" in partners.privacy_note(made).en
        assert "EXACT" in said(made, "government").learned.en
        assert "EXACT" not in partners.privacy_note(RESULT).en

    def test_a_void_release_told_nothing(self) -> None:
        made = copy.deepcopy(RESULT)
        made["partners"]["government"]["released"] = False
        assert "no sums: the release was void" in said(made, "government").learned.en


class TestLearned:
    def test_each_party_and_coalition_has_a_line(self) -> None:
        whos = [entry.who.en for entry in learned.learned(RESULT)]
        assert whos[:6] == [
            "bank-1",
            "bank-2",
            "bank-3",
            "e-commerce",
            "government",
            "compute (compute party)",
        ]
        assert whos[6].startswith("Coordinator")
        assert [who.endswith("if they pooled") for who in whos[7:]] == [True] * 4

    def test_sizes_are_the_job_s_own(self) -> None:
        bank = said(RESULT, "bank-1").learned.en
        known = RESULT["coverage"]["e-commerce"]["bank-1"]
        assert f"{100 * known['listed']:.1f} % of 8,081 clients in a table of about 28,672 rows" in bank
        assert f"e-commerce {known['bins']:,}" in bank
        partner = said(RESULT, "government").learned.en
        assert "bank-3 7,168 + 10,240" in partner
        assert "20 sums over all banks, each with noise of standard deviation 63.7" in partner
        neutral = said(RESULT, "compute").learned.en
        assert "e-commerce 28,672 × 20, government 32,768 × 20" in neutral

    def test_what_the_compute_party_and_partners_did_not_learn(self) -> None:
        assert "any id, row, count, label" in said(RESULT, "compute").hidden.en
        assert "which of its enterprises are clients" in said(RESULT, "government").hidden.en
        assert "labels" in said(RESULT, "compute and a partner").learned.en

    def test_a_table_that_took_no_part_is_still_named(self) -> None:
        made = copy.deepcopy(RESULT)
        made["data"]["parties"].append({"name": "idle", "role": "e-commerce", "rows": 5, "fields": 1})
        assert facts.idle(made) == ["idle"]
        assert facts.idle(RESULT) == []

    def test_the_terminal_and_the_card_say_it_too(self) -> None:
        shown = " ".join(terminal(RESULT).split())
        assert "What each party learned in this job" in shown
        assert "standard deviation 63.7" in shown
        assert "standard deviation 63.7" in report.card_markdown(RESULT)
        assert len(report.card_json(RESULT)["privacy"]["learned"]) == len(learned.learned(RESULT))


class TestKinds:
    def test_every_kind_that_nodes_release_is_explained(self) -> None:
        assert facts.unknown_classes(RESULT) == []
        page = Page(report.html(RESULT))
        for kind in ("masked table", "blinded points", "evaluated points", "masked product", "masked sum"):
            assert kind in page.cells["kinds"]
            assert facts.KINDS[kind].en in page.cells["kinds"]

    def test_the_senders_use_no_other_kind(self) -> None:
        root = Path(__file__).parents[2]
        import bank_node.lookups
        import bank_node.openings
        import bank_node.vertical
        import coordinator.compute
        import data_partner_node.vertical as partner
        import node.stages

        used = {
            bank_node.lookups.POINTS,
            *(getattr(bank_node.openings, name) for name in ("MASKED", "SEALED", "SIGNED")),
            *(getattr(bank_node.vertical, name) for name in ("MASKED_D", "SEALED", "SIGNED", "MASKED")),
            coordinator.compute.MASKED,
            *(getattr(partner, name) for name in ("STATE", "EVALUATED", "ENTRIES", "SEALED", "SIGNED")),
            *node.stages.FIELD_CLASS.values(),
        }
        assert used <= set(facts.KINDS)
        assert (root / "concordat").is_dir()

    def test_a_kind_that_is_not_known_warns(self) -> None:
        made = copy.deepcopy(RESULT)
        made["egress"]["government"][0]["field_class"] = "plain rows"
        text = report.html(made)
        assert "does not know (plain rows)" in text
        assert "NOT KNOWN to this report" in text
        assert "<strong>0</strong>" not in text
        assert "<strong>0</strong>" in report.html(RESULT)

    def test_links_say_of_what_they_consist(self) -> None:
        cells = Page(report.html(RESULT)).cells["links"]
        assert "masked product 6.1 MB, signature 1.3 kB" in cells


class TestCard:
    def test_has_the_partners_figures_and_their_spending(self) -> None:
        card = report.card_json(RESULT)
        json.dumps(card, allow_nan=False)
        found = card["with_partners"]
        assert list(found["models"]) == ["h", "h_plus", "s", "s_head"]
        assert found["models"]["s"]["against_h_plus"] == RESULT["figures"]["comparison"]
        assert found["privacy_spent"] == RESULT["privacy_spent"]
        assert found["coverage"] == RESULT["coverage"]
        assert [party["took_part"] for party in card["parties"]] == [True] * 5
        assert "e-commerce, government and compute approved it too" in card["approvals"]["statement"]

    def test_without_partners_has_no_such_part(self) -> None:
        assert "with_partners" not in report.card_json(ALONE)

    def test_markdown_takes_no_markup_from_tables(self) -> None:
        text = report.card_markdown(RESULT)
        assert "S: H+ with the partners' sub-scores" in text
        for line in text.splitlines():
            if line.startswith("| e-commerce ·"):
                assert line.count("|") == 6


def test_steps_within_another_are_not_counted_twice() -> None:
    shown = [row[0] for row in traffic.steps(RESULT).table.rows]
    assert "with partners" in shown
    assert not [name for name in shown if ":" in str(name)]


def test_nothing_in_the_report_names_an_enterprise_or_a_place() -> None:
    for text in (report.html(RESULT), report.card_markdown(RESULT), json.dumps(report.card_json(RESULT))):
        assert "/work" not in text
