"""Stage S: begins as H to the bit, trains beside H+ on the same rows, lives with partners that are missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_world as sw
import torch

from bank_node import shared_model, training
from bank_node.network import load, shape_of
from bank_node.schedule import Beside
from bank_node.shared_model import WIDTH, SharedTrainer, encode_bins, pair_from, start_of
from bank_node.subscores import SubScores
from bank_node.training import LocalTrainer, Seeds, half_of
from protocol import ring
from protocol.errors import ProtocolError

ROWS, COLUMNS = 400, 5
SEEDS = Seeds(b"c" * 32, b"o" * 32)
HALVES = half_of([f"enterprise-{i}" for i in range(ROWS)], b"sixteen bytes ok")


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(0))
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-x[:, 0]))).astype(np.int8)
    return x, y, rng.integers(-1, 16, size=(ROWS, 2)).astype(np.int8)


def base() -> LocalTrainer:
    x, y, _ = rows()
    return LocalTrainer(sw.RECIPE, x, y, HALVES, SEEDS, -1.0)


def trained() -> np.ndarray:
    """H's final weights, made up."""
    shape = shape_of(sw.RECIPE, COLUMNS)
    rng = np.random.Generator(np.random.PCG64(1))
    return rng.normal(size=(shape.networks, shape.parameters)).astype(np.float32)


def further(bins: np.ndarray, drop: float = 0.0) -> SharedTrainer:
    return SharedTrainer(base(), sw.RECIPE, sw.SHARED, bins, drop)


class TestInputs:
    def test_a_bin_is_a_thermometer_an_index_and_no_flag(self) -> None:
        low, high = encode_bins(np.array([[0], [15]], np.int8))[:, 0]
        share = (16 - np.arange(1, 16)) / 16
        np.testing.assert_allclose(low[:15], -share)
        np.testing.assert_allclose(high[:15], 1 - share)
        assert (low[15], high[15]) == (-0.5, 0.5)
        assert low[16] == high[16] == 0

    def test_bins_in_equal_numbers_are_zero_on_average(self) -> None:
        every = encode_bins(np.arange(16, dtype=np.int8)[:, None])[:, 0]
        np.testing.assert_allclose(every.mean(axis=0), 0.0, atol=1e-7)

    def test_a_missing_bin_is_its_flag_and_else_the_average(self) -> None:
        missing = encode_bins(np.array([[-1, 3]], np.int8))[0]
        assert missing[0].tolist() == [0.0] * 16 + [1.0]
        assert missing[1, -1] == 0.0

    def test_higher_bins_switch_further_steps_on(self) -> None:
        every = encode_bins(np.arange(16, dtype=np.int8)[:, None])[:, 0]
        rising = np.diff(every, axis=0)
        assert (rising[:, :16] >= 0).all()
        assert ((rising[:, :15] > 0).sum(axis=1) == 1).all()


class TestStart:
    def test_s_begins_with_h_s_log_odds_to_the_bit(self) -> None:
        x, _, bins = rows()
        shape = shape_of(sw.RECIPE, COLUMNS)
        with_bins = shape.beside(2 * WIDTH)
        pair = start_of(trained(), with_bins)
        assert pair.s is not None
        inputs = torch.tensor(shared_model.beside(bins))
        for i in range(shape.networks):
            h, s = shape.model(), with_bins.model()
            load(h, pair.h_plus[i])
            load(s, pair.s[i])
            with torch.no_grad():
                assert torch.equal(h(torch.tensor(x)), s(torch.tensor(x), inputs))

    def test_h_plus_begins_with_h(self) -> None:
        h = trained()
        pair = start_of(h, further(rows()[2]).shape)
        np.testing.assert_array_equal(pair.h_plus, h)
        assert pair.s is not None
        np.testing.assert_array_equal(pair.s[:, : h.shape[1]], h)
        assert not pair.s[:, h.shape[1] :].any()

    def test_without_partners_there_is_no_s(self) -> None:
        one = further(np.zeros((ROWS, 0), np.int8))
        pair = start_of(trained() / 10, one.shape)
        assert pair.s is None
        after = one.local_pass(pair, 3)
        assert after.s is None
        assert len(one.vector(after)) == after.h_plus.size + len(after.h_plus)


class TestRounds:
    @pytest.mark.parametrize("drop", [0.0, 0.5])
    def test_h_plus_and_s_see_the_same_rows_dropout_and_steps(self, drop: float) -> None:
        # With inputs of zero S has nothing more than H+: whatever else differed would show in its weights.
        one = further(rows()[2])
        empty = Beside(torch.zeros(ROWS, 2, WIDTH), torch.zeros(WIDTH), drop)
        assert one._s is not None
        one._s = one._s.continued(one._s.schedule, empty)
        start = start_of(trained() / 10, one.shape)
        after = one.local_pass(start, 3)
        assert after.s is not None
        p = after.h_plus.shape[1]
        np.testing.assert_array_equal(after.s[:, :p], after.h_plus)
        assert not after.s[:, p:].any()
        assert (after.h_plus != start.h_plus).any()

    def test_bins_teach_s_and_not_h_plus(self) -> None:
        _, y, bins = rows()
        bins[:, 0] = np.where(y == 1, 12, 3)
        one = further(bins)
        start = start_of(trained() / 10, one.shape)
        after, other = one.local_pass(start, 3), further(rows()[2]).local_pass(start, 3)
        np.testing.assert_array_equal(after.h_plus, other.h_plus)
        assert after.s is not None
        assert other.s is not None
        assert (after.s != other.s).any()

    def test_rounds_go_on_after_the_bank_score_s(self) -> None:
        one = further(rows()[2])
        start = start_of(trained() / 10, one.shape)
        for round_ in (1, 2, 5):
            with pytest.raises(ProtocolError) as refused:
                one.local_pass(start, round_)
            assert refused.value.code == "TRAINING_ROUND"
        assert (one.local_pass(start, 3).h_plus != one.local_pass(start, 4).h_plus).any()

    def test_the_same_seeds_give_the_same_bits(self) -> None:
        start = start_of(trained() / 10, further(rows()[2]).shape)
        first, again = (further(rows()[2], 0.3).local_pass(start, 3) for _ in range(2))
        np.testing.assert_array_equal(first.h_plus, again.h_plus)
        np.testing.assert_array_equal(first.s, again.s)

    def test_another_number_of_models_is_refused(self) -> None:
        one, none = further(rows()[2]), further(np.zeros((ROWS, 0), np.int8))
        with pytest.raises(ProtocolError):
            none.local_pass(start_of(trained() / 10, one.shape), 3)
        with pytest.raises(ProtocolError):
            one.local_pass(start_of(trained() / 10, none.shape), 3)

    def test_a_bin_is_taken_from_rows_at_random(self) -> None:
        values = torch.tensor(encode_bins(rows()[2]))
        absent = torch.tensor(encode_bins(np.full((1, 1), -1, np.int8))[0, 0])
        chosen = torch.arange(ROWS).reshape(2, -1)
        for drop in (0.0, 0.25, 1.0):
            taken = Beside(values, absent, drop).batch(chosen, torch.Generator().manual_seed(0))
            taken = taken.reshape(ROWS, 2, WIDTH)
            changed = (taken != values).any(dim=2)
            assert torch.equal(taken[changed], absent.expand(int(changed.sum()), -1))
            known = values[:, :, -1] == 0
            assert abs(float(changed[known].float().mean()) - drop) < 0.06


class TestTotals:
    def test_both_models_are_averaged_by_rows_in_one_vector(self) -> None:
        one = further(rows()[2])
        pairs = [start_of(trained() * scale, one.shape) for scale in (1.0, 0.5)]
        elements = [
            ring.encode(one.vector(pair), training.FRACTION_BITS, training.UPDATE_LIMIT) for pair in pairs
        ]
        total = ring.decode(elements[0] + elements[1], training.FRACTION_BITS)
        mean = pair_from(total, one.shape)
        np.testing.assert_allclose(mean.h_plus, trained() * 0.75, atol=1e-6)
        assert mean.s is not None
        np.testing.assert_allclose(mean.s[:, : mean.h_plus.shape[1]], trained() * 0.75, atol=1e-6)

    @pytest.mark.parametrize("cut", [1, 4])
    def test_a_total_of_another_length_is_refused(self, cut: int) -> None:
        one = further(rows()[2])
        vector = one.vector(start_of(trained(), one.shape))
        for wrong in (vector[cut:], np.concatenate([vector, np.zeros(cut)])):
            with pytest.raises(ProtocolError):
                pair_from(wrong, one.shape)

    def test_weights_beyond_the_limit_never_enter_the_vector(self) -> None:
        one = further(rows()[2])
        pair = start_of(trained(), one.shape)
        assert pair.s is not None
        pair.s[0, -1] = training.WEIGHT_LIMIT * 2
        with pytest.raises(ProtocolError) as refused:
            one.vector(pair)
        assert refused.value.code == "NETWORK_DIVERGED"

    def test_a_hundred_banks_have_headroom(self) -> None:
        ring.check_headroom(100, training.UPDATE_LIMIT, training.FRACTION_BITS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[sw.World, dict[str, Any]]:
    job = sw.world(tmp_path_factory.mktemp("models"))
    job.session()
    job.train()
    return job, job.finish()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[sw.World, dict[str, Any]]:
    """The same job, all of whose partners have failed."""
    job = sw.world(tmp_path_factory.mktemp("models"), partners=())
    job.session()
    job.train()
    return job, job.finish()


class TestJob:
    def test_the_banks_agree_on_one_model_and_its_figures(self, done: tuple[sw.World, dict]) -> None:
        _, ends = done
        assert len({end["statement"]["body"]["model"] for end in ends.values()}) == 1
        assert all(end["figures"] == ends["bank-1"]["figures"] for end in ends.values())

    def test_partners_that_know_something_make_a_better_model(self, done: tuple[sw.World, dict]) -> None:
        figures = done[1]["bank-1"]["figures"]
        assert figures["serving"] == "s"
        assert figures["auc"] == figures["models"]["s"]["auc"] > figures["models"]["h_plus"]["auc"] + 0.05
        assert figures["promotable"] is True
        assert figures["comparison"]["against"] == "h_plus"
        assert figures["comparison"]["lower"] > 0
        assert set(figures["models"]) == {"h", "h_plus", "s", "s_head"}

    def test_h_is_the_model_of_a_job_without_partners(
        self, done: tuple[sw.World, dict], tmp_path: Path
    ) -> None:
        job = sw.world(tmp_path, asked=sw.proposal(vertical=False))
        job.session()
        job.train()
        ends = job.finish()
        found = [
            (folder / "bank-1" / one.job / "weights.f32").read_bytes()
            for folder, one in ((tmp_path, job), (done[0].models, done[0]))
        ]
        assert found[0] == found[1]
        figures, beside = ends["bank-1"]["figures"], done[1]["bank-1"]["figures"]["models"]["h"]
        assert figures["auc"] == beside["auc"]
        assert figures["promotable"] is True
        assert "models" not in figures
        assert set(job.relay.openings) == {"knots", "centring", "edges", "histogram"}

    def test_without_any_partner_h_plus_goes_on_and_h_serves(self, alone: tuple[sw.World, dict]) -> None:
        figures = alone[1]["bank-1"]["figures"]
        assert (figures["serving"], figures["promotable"], figures["comparison"]) == ("h", False, None)
        assert set(figures["models"]) == {"h", "h_plus"}
        assert figures["partners"] == []
        assert figures["coverage"] == {}

    def test_h_and_h_plus_are_the_same_with_and_without_partners(
        self, done: tuple[sw.World, dict], alone: tuple[sw.World, dict]
    ) -> None:
        for name in ("weights.f32", "weights.h_plus.f32"):
            found = [(job.models / "bank-2" / job.job / name).read_bytes() for job, _ in (done, alone)]
            assert found[0] == found[1]

    def test_lengths_tell_the_server_nothing_of_who_failed_at_the_end(
        self, done: tuple[sw.World, dict], alone: tuple[sw.World, dict]
    ) -> None:
        lengths = [{name: one.length for name, one in job.relay.openings.items()} for job, _ in (done, alone)]
        assert lengths[0] == lengths[1]
        assert {"edges", "histogram", "comparison"} <= set(lengths[0])

    def test_a_partner_without_information_is_not_promoted(self, tmp_path: Path) -> None:
        job = sw.world(tmp_path, null=True)
        job.session()
        job.train()
        figures = job.finish()["bank-1"]["figures"]
        assert figures["serving"] == "s"
        assert figures["promotable"] is False
        assert figures["comparison"]["lower"] <= 0

    def test_a_repeated_round_sends_the_same_bytes(self, done: tuple[sw.World, dict]) -> None:
        job, _ = done
        kept = job.channels["bank-1"].kept["update.0.4"]
        assert job.scores["bank-1"].train(4, job.totals[2]) == kept

    def test_one_partner_of_two_is_enough(self, tmp_path: Path) -> None:
        job = sw.world(tmp_path, partners=("shop",))
        job.session()
        job.train()
        figures = job.finish()["bank-3"]["figures"]
        assert figures["partners"] == ["shop"]
        assert list(figures["coverage"]) == ["shop"]
        assert figures["promotable"] is True

    def test_a_session_that_left_no_sub_scores_ends_the_job(self, tmp_path: Path) -> None:
        job = sw.world(tmp_path)
        del job.channels["bank-1"].kept["subscores.0"]
        job.session()
        with pytest.raises(ProtocolError) as refused:
            job.scores["bank-1"].train(1, b"")
        assert refused.value.code == "SUBSCORE_MISSING"

    @pytest.mark.parametrize(
        "wrong",
        [
            SubScores(sw.PARTNERS, np.zeros((899, 2), np.int8)),
            SubScores(("city", "stranger"), np.zeros((900, 2), np.int8)),
        ],
    )
    def test_sub_scores_of_another_table_or_partner_are_refused(
        self, wrong: SubScores, tmp_path: Path
    ) -> None:
        job = sw.world(tmp_path)
        job.channels["bank-1"].kept["subscores.0"] = wrong.to_bytes()
        job.session()
        with pytest.raises(ProtocolError) as refused:
            job.scores["bank-1"].train(1, b"")
        assert refused.value.code == "SUBSCORE_SHAPE"

    def test_a_job_can_t_end_before_stage_s(self, tmp_path: Path) -> None:
        job = sw.world(tmp_path)
        job.session()
        job.train(2)
        with pytest.raises(ProtocolError):
            job.scores["bank-1"].finish(job.totals[-1])
