"""A model on disk and what answers: S with the head, S, or H where no partner can be asked; and its figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shared_world as sw
from delong_exact import exact
from sklearn.metrics import roc_auc_score

from bank_node.evaluation import Evaluated
from bank_node.risk_model import Line, RiskModel
from bank_node.scoring import probability
from bank_node.subscores import SubScores
from concordat.cli.model import describe
from coordinator.registration import card_of
from protocol.errors import ConcordatError, ConfigurationError, DataError
from protocol.metrics import ScoreHistogram

Done = tuple[sw.World, dict[str, Any]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    job = sw.world(tmp_path_factory.mktemp("models"), rows=2400)
    job.session()
    job.train()
    return job, job.finish()


def folder(done: Done, bank: str = "bank-1") -> Path:
    return done[0].models / bank / done[0].job


def held(done: Done, bank: str = "bank-1") -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A bank's hold-out: columns, outcomes, bins."""
    data = done[0].data[bank]
    known = SubScores.from_bytes(done[0].channels[bank].kept["subscores.0"])
    rows = data.holdout()
    return rows.frame, rows.label, known.chosen(data._held_out)


@pytest.fixture(scope="module")
def pooled(done: Done) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every model's scores over all banks' hold-outs, which nobody pools in real life."""
    found: dict[str, list[np.ndarray]] = {}
    labels = []
    for bank in sw.BANKS:
        frame, label, bins = held(done, bank)
        labels.append(label)
        for name, z in RiskModel.read(folder(done, bank)).log_odds(frame, bins).items():
            found.setdefault(name, []).append(z)
    return {name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(labels)


class TestScores:
    def test_s_with_the_head_answers_where_there_are_bins(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, label, bins = held(done)
        assert model.head is not None
        answer = model.score(frame, bins)
        assert answer.model == "s_head"
        assert roc_auc_score(label, answer.pd) > roc_auc_score(label, model.score(frame).pd) + 0.05

    def test_h_answers_where_no_partner_can_be_asked(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, _, _ = held(done)
        answer = model.score(frame)
        assert answer.model == "h"
        line = model.lines["h"]
        np.testing.assert_allclose(answer.pd, probability(line(model.log_odds(frame)["h"])))

    def test_s_answers_at_a_bank_without_a_head(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, _, bins = held(done)
        bare = RiskModel(
            model.encoding, model.recipe, model.h, model.h_plus, model.s, model.partners, None, model.lines
        )
        assert bare.score(frame, bins).model == "s"
        assert bare.name == model.name

    def test_a_row_that_no_partner_knows_is_h_s(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, _, bins = held(done)
        bins = bins.copy()
        bins[:5] = -1
        found = model.log_odds(frame, bins)
        for name in ("s", "s_head"):
            np.testing.assert_array_equal(found[name][:5], found["h"][:5])
            assert (found[name][5:] != found["h"][5:]).any()

    def test_a_missing_bin_is_not_a_low_bin(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, _, bins = held(done)
        gone, low = bins.copy(), bins.copy()
        gone[:, 1], low[:, 1] = -1, 0
        known = bins[:, 0] >= 0
        mean = [model.log_odds(frame, one)["s"][known].mean() for one in (bins, gone, low)]
        assert abs(mean[1] - mean[0]) < 0.5 * abs(mean[2] - mean[0])

    def test_bins_of_other_rows_or_partners_are_refused(self, done: Done) -> None:
        model = RiskModel.read(folder(done))
        frame, _, bins = held(done)
        for wrong in (bins[1:], bins[:, :1]):
            with pytest.raises(DataError) as refused:
                model.score(frame, wrong)
            assert refused.value.code == "SCORE_BINS"

    def test_recalibration_brings_the_hold_out_to_slope_one(self, done: Done) -> None:
        figures = done[1]["bank-1"]["figures"]
        for name, line in RiskModel.read(folder(done)).lines.items():
            fit = figures["models"][name]["calibration"]
            assert line == Line(round(fit["slope"], 6), round(fit["intercept"], 6))
        assert Line(2.0, -1.0)(np.array([3.0])).tolist() == [5.0]

    @pytest.mark.parametrize("bad", [[0, 0], [90, 10]])
    def test_a_line_that_cells_don_t_determine_or_that_falls_is_the_identity(self, bad: list[int]) -> None:
        rows = np.array([100, 100])
        counted = ScoreHistogram(
            np.array([0.0, 0.5, 1.0]), rows - bad, np.array(bad), rows * np.array([0.2, 0.8]), 1.0
        )
        assert Evaluated({"h": counted}).line("h") == Line()


class TestFolder:
    def test_the_description_is_the_same_at_every_bank_and_heads_are_not(self, done: Done) -> None:
        said = {(folder(done, bank) / "model.json").read_bytes() for bank in sw.BANKS}
        heads = {(folder(done, bank) / "head.json").read_bytes() for bank in sw.BANKS}
        assert len(said) == 1
        assert len(heads) == 3
        assert "head" not in json.loads(said.pop())

    def test_what_was_written_reads_back(self, done: Done, tmp_path: Path) -> None:
        model = RiskModel.read(folder(done))
        assert model.name == done[1]["bank-1"]["statement"]["body"]["model"]
        assert model.write(tmp_path / "again", {}) == model.name
        frame, _, bins = held(done)
        again = RiskModel.read(tmp_path / "again")
        np.testing.assert_array_equal(again.score(frame, bins).pd, model.score(frame, bins).pd)

    def test_a_model_without_partners_reads_back(self, done: Done, tmp_path: Path) -> None:
        model = RiskModel.read(folder(done))
        bare = RiskModel(model.encoding, model.recipe, model.h)
        bare.write(tmp_path / "h", {})
        frame, _, bins = held(done)
        again = RiskModel.read(tmp_path / "h")
        assert again.description()["kind"] == "bank score"
        assert again.score(frame, bins).model == "h"

    @pytest.mark.parametrize("name", ["weights.f32", "weights.h_plus.f32", "weights.s.f32"])
    def test_changed_weights_are_refused(self, name: str, done: Done, tmp_path: Path) -> None:
        RiskModel.read(folder(done)).write(tmp_path / "m", {})
        file = tmp_path / "m" / name
        content = bytearray(file.read_bytes())
        content[10] ^= 1
        file.write_bytes(content)
        with pytest.raises(ConfigurationError) as refused:
            RiskModel.read(tmp_path / "m")
        assert refused.value.code == "MODEL_CHANGED"

    def test_missing_or_malformed_files_are_refused(self, done: Done, tmp_path: Path) -> None:
        RiskModel.read(folder(done)).write(tmp_path / "m", {})
        description = json.loads((tmp_path / "m" / "model.json").read_bytes())
        (tmp_path / "m" / "model.json").write_text(json.dumps({**description, "version": 3}))
        with pytest.raises(ConfigurationError) as refused:
            RiskModel.read(tmp_path / "m")
        assert refused.value.code == "MODEL_MALFORMED"
        with pytest.raises(ConfigurationError) as refused:
            RiskModel.read(tmp_path / "nothing")
        assert refused.value.code == "MODEL_MISSING"


class TestFigures:
    def test_auc_from_masked_histograms_is_the_pooled_one(self, done: Done, pooled: Any) -> None:
        scores, y = pooled
        models = done[1]["bank-1"]["figures"]["models"]
        assert set(models) == set(scores)
        for name, one in models.items():
            assert one["auc"] == pytest.approx(roc_auc_score(y, scores[name]), abs=0.003)
            assert one["holdout_rows"] == len(y)

    @pytest.mark.parametrize("name", ["s", "s_head"])
    def test_the_comparison_is_delong_s_on_the_pooled_rows(self, name: str, done: Done, pooled: Any) -> None:
        scores, y = pooled
        found = done[1]["bank-1"]["figures"]["models"][name]["comparison"]
        difference, error = exact(scores[name], scores["h_plus"], y)
        assert found["difference"] == pytest.approx(difference, abs=0.003)
        assert found["standard_error"] == pytest.approx(error, rel=0.05)
        assert found["lower"] == pytest.approx(found["difference"] - 1.96 * found["standard_error"], abs=1e-4)

    def test_coverage_is_rounded(self, done: Done) -> None:
        figures = done[1]["bank-1"]["figures"]
        bins = np.concatenate([held(done, bank)[2] for bank in sw.BANKS])
        for i, partner in enumerate(sw.PARTNERS):
            assert figures["coverage"][partner] == round(float((bins[:, i] >= 0).mean()), 2)
        assert figures["partners"] == list(sw.PARTNERS)

    def test_shown_cells_have_fifty_rows(self, done: Done) -> None:
        for one in done[1]["bank-1"]["figures"]["models"].values():
            counted = one["histogram"]
            assert min(g + b for g, b in zip(counted["good"], counted["bad"], strict=True)) >= 50


class TestCard:
    def card(self, done: Done, figures: dict[str, Any]) -> dict[str, Any]:
        return card_of(done[0].proposal, "j" * 64, list(sw.BANKS), 0, figures, [])

    def shown(self, card: dict[str, Any]) -> str:
        made = {
            "version": 1,
            "state": "candidate",
            "created_at": 0,
            "digest": "d",
            "job": "j",
            "statements": [],
        }
        return describe({**made, "card": card})

    def test_it_states_the_gain_and_that_it_may_be_promoted(self, done: Done) -> None:
        card = self.card(done, done[1]["bank-1"]["figures"])
        assert card["promotable"] is True
        assert card["name"] == "shared risk model"
        text = self.shown(card)
        assert "city (covers 80%), shop (covers" in text
        assert "95 % interval +0." in text
        assert "promotable" in text

    def test_it_states_that_no_partner_took_part(self, done: Done) -> None:
        figures = {
            **done[1]["bank-1"]["figures"],
            "serving": "h",
            "promotable": False,
            "comparison": None,
            "partners": [],
            "coverage": {},
        }
        card = self.card(done, figures)
        assert (card["promotable"], card["name"]) == (False, "shared bank score")
        text = self.shown(card)
        assert "not measured" in text
        assert "city, shop" in text

    def test_a_card_of_before_stage_s_shows_as_promotable(self, done: Done) -> None:
        figures = dict(done[1]["bank-1"]["figures"]["models"]["h"])
        card = card_of(sw.proposal(vertical=False), "j" * 64, list(sw.BANKS), 0, figures, [])
        assert card["promotable"] is True
        assert "comparison" not in card
        del card["promotable"]
        assert "gain over" not in self.shown(card)


def test_errors_name_no_row(done: Done) -> None:
    frame, _, _ = held(done)
    with pytest.raises(ConcordatError) as refused:
        RiskModel.read(folder(done)).score(frame, np.zeros((1, 2), np.int8))
    assert all(name not in str(refused.value) for name in frame.index[:50])
