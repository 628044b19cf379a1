"""The private release: exact accounting, the sensitivity's proof put to the test, the record of what is spent."""

import doctest
import itertools
import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import product, release
from protocol.errors import NotApproved, ProtocolError
from protocol.release import Charge, Release, SpentPrivacy, compose, delta_of, epsilon_of, mu_of

TABLE = [(0.5, 7.03), (1.0, 3.73), (2.0, 1.99), (4.0, 1.08), (8.0, 0.60)]
ONE = Release(components=20, base_rate=0.22, memberships=3, epsilon=1.0, delta=1e-5)


class TestAccounting:
    def test_examples_of_the_docstrings(self) -> None:
        assert doctest.testmod(release).failed == 0

    @pytest.mark.parametrize(("epsilon", "inverse"), TABLE)
    def test_the_specification_s_table(self, epsilon: float, inverse: float) -> None:
        assert round(1 / mu_of(epsilon, 1e-5), 2) == inverse

    @pytest.mark.parametrize(("epsilon", "_"), TABLE)
    def test_mu_is_exact_from_below(self, epsilon: float, _: float) -> None:
        mu = mu_of(epsilon, 1e-5)
        assert delta_of(mu, epsilon) <= 1e-5 < delta_of(mu * (1 + 1e-9), epsilon)
        assert epsilon_of(mu, 1e-5) == pytest.approx(epsilon, rel=1e-9)

    @pytest.mark.parametrize(("epsilon", "_"), TABLE)
    def test_a_privacy_loss_distribution_agrees(self, epsilon: float, _: float) -> None:
        """dp-accounting rounds losses up to a grid: never below, and within one per cent."""
        loss = privacy_loss_distribution.from_gaussian_mechanism(1 / mu_of(epsilon, 1e-5))
        assert epsilon * (1 - 1e-9) <= loss.get_epsilon_for_delta(1e-5) <= 1.01 * epsilon + 1e-3

    def test_composition_agrees_too(self) -> None:
        one, two = mu_of(1.0, 1e-5), mu_of(0.5, 1e-5)
        losses = [privacy_loss_distribution.from_gaussian_mechanism(1 / mu) for mu in (one, one, two)]
        together = losses[0].compose(losses[1]).compose(losses[2]).get_epsilon_for_delta(1e-5)
        assert together == pytest.approx(epsilon_of(compose([one, one, two]), 1e-5), rel=2e-3)

    def test_red_adding_up_sigma_instead_of_mu_squared_is_off(self) -> None:
        one = mu_of(1.0, 1e-5)
        assert abs(epsilon_of(2 * one, 1e-5) / epsilon_of(compose([one, one]), 1e-5) - 1) > 0.2

    @settings(deadline=None)
    @given(st.floats(0.01, 20), st.floats(1e-12, 9e-3))
    def test_mu_and_epsilon_are_inverse(self, epsilon: float, delta: float) -> None:
        assert epsilon_of(mu_of(epsilon, delta), delta) == pytest.approx(epsilon, rel=1e-6, abs=1e-9)

    def test_nothing_spent_costs_nothing(self) -> None:
        assert epsilon_of(0.0, 1e-5) == 0.0
        assert epsilon_of(1e-9, 1e-5) == 0.0
        assert compose([]) == 0.0

    def test_tails_meet_where_erfc_ends(self) -> None:
        tail = release._log_normal_tail
        assert tail(30.0) == pytest.approx(math.log(0.5 * math.erfc(30 / math.sqrt(2))), rel=1e-12)
        assert mu_of(100.0, 1e-300) > 0

    @pytest.mark.parametrize(
        ("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (math.inf, 1e-5), (101, 1e-5), (1, 0), (1, 0.1)]
    )
    def test_parameters_out_of_range_are_refused(self, epsilon: float, delta: float) -> None:
        with pytest.raises(ProtocolError, match="RELEASE_PARAMETERS"):
            mu_of(epsilon, delta)

    def test_epsilon_refuses_too(self) -> None:
        for mu, delta in ((-1.0, 1e-5), (math.inf, 1e-5), (1.0, 0.0)):
            with pytest.raises(ProtocolError, match="RELEASE_PARAMETERS"):
                epsilon_of(mu, delta)


class TestSensitivity:
    """Test 8: never above Δ, after rounding, one enterprise in all banks, any bit pattern."""

    @staticmethod
    def _moved(one: Release, outcomes: tuple[bool, ...], bits: np.ndarray) -> float:
        """How far an enterprise moves v in the ring, its row standing in every bank with some outcome."""
        values = product.weights(np.array(outcomes), one.base_rate)
        change = values.sum() * (2 * bits.astype(np.int64) - 1)
        return math.sqrt(int((change * change).sum()))

    @settings(deadline=None)
    @given(
        st.floats(0.001, 0.999),
        st.integers(1, 30),
        st.lists(st.booleans(), min_size=1, max_size=8),
        st.integers(0, 2**30 - 1),
    )
    def test_no_enterprise_moves_v_further(
        self, base_rate: float, k: int, outcomes: list[bool], pattern: int
    ) -> None:
        one = Release(k, base_rate, len(outcomes), 1.0, 1e-5)
        bits = np.array([pattern >> i & 1 for i in range(k)], dtype=np.uint8)
        assert self._moved(one, tuple(outcomes), bits) <= one.ring_sensitivity

    @pytest.mark.parametrize("base_rate", [0.22, 0.5, 0.9, 1 / 3, 1e-3])
    def test_the_bound_is_reached(self, base_rate: float) -> None:
        one = Release(20, base_rate, 3, 1.0, 1e-5)
        moved = [self._moved(one, (y,) * 3, np.ones(20, dtype=np.uint8)) for y in (False, True)]
        assert max(moved) == pytest.approx(one.ring_sensitivity, rel=1e-12)
        assert one.sensitivity == pytest.approx(
            3 * math.sqrt(20) * max(base_rate, 1 - base_rate), abs=3 * math.sqrt(20) * 2**-13
        )

    def test_red_the_bound_before_rounding_is_exceeded(self) -> None:
        """Δ from the unrounded b₀ would be too small: the reason for taking the rounded integers."""
        rate = 0.22  # 0.78·4096 = 3194.88 is rounded up
        one = Release(20, rate, 3, 1.0, 1e-5)
        naive = 3 * math.sqrt(20) * max(rate, 1 - rate) * 4096
        assert self._moved(one, (True,) * 3, np.ones(20, dtype=np.uint8)) > naive

    def test_red_real_valued_rows_exceed_it(self) -> None:
        one = Release(20, 0.22, 1, 1.0, 1e-5)
        row = np.full(20, 2.0**10)  # what a cheating partner would enter, if rows were not bits
        assert np.linalg.norm(row * 0.78) > 100 * one.sensitivity


class TestNoise:
    def test_variance_is_the_accounted_one(self) -> None:
        """|s²/σ² − 1| < 4 %: 5.7 standard deviations at 40,000 draws."""
        drawn = release.noise(ONE.ring_sigma, 40_000).view(np.int64).astype(np.float64)
        assert abs((drawn**2).mean() / ONE.ring_sigma**2 - 1) < 0.04
        assert abs(drawn.mean()) < 6 * ONE.ring_sigma / 200

    def test_red_half_the_noise_would_be_seen(self) -> None:
        drawn = release.noise(ONE.ring_sigma / 2, 10_000).view(np.int64).astype(np.float64)
        assert (drawn**2).mean() / ONE.ring_sigma**2 - 1 < -0.04

    def test_banks_together_add_as_much_as_t(self) -> None:
        assert sum(ONE.bank_ring_sigma(4) ** 2 for _ in range(4)) == pytest.approx(ONE.ring_sigma**2)
        assert ONE.sigma == pytest.approx(ONE.sensitivity / mu_of(1.0, 1e-5))

    @pytest.mark.parametrize("scale", [12.0, 20.0, 300.0])
    def test_the_discrete_gaussian_is_as_close_as_the_proof_says(self, scale: float) -> None:
        """Log ratio of the rounded to the discrete mass within 12 standard deviations, by quadrature."""
        reach = 12.0
        at = np.arange(-int(reach * scale), int(reach * scale) + 1)[:, None]
        t = (np.arange(2_000) + 0.5) / 2_000 - 0.5
        norming = np.exp(-(np.arange(-40 * scale, 40 * scale + 1) ** 2) / (2 * scale**2)).sum()
        ratio = np.exp(-(2 * at * t + t**2) / (2 * scale**2)).mean(axis=1)
        ratio *= norming / (scale * math.sqrt(2 * math.pi))
        assert np.abs(np.log(ratio)).max() <= reach**2 / (20 * scale**2)

    def test_noise_outside_the_proof_is_not_built(self) -> None:
        Release(20, 0.22, 3, 8.0, 1e-5)
        with pytest.raises(ProtocolError, match="RELEASE_TOO_COARSE"):
            Release(20, 0.22, 3, 8.0, 1e-5, fraction_bits=4)
        with pytest.raises(ProtocolError, match="RELEASE_TOO_COARSE"):
            Release(20, 0.22, 3, 1.0, 1e-13)
        for scale, k in ((0.0, 1), (-1.0, 1), (math.inf, 1), (math.nan, 1), (1.0, 0)):
            with pytest.raises(ProtocolError, match="RELEASE_PARAMETERS"):
                release.noise(scale, k)

    @pytest.mark.parametrize("change", [(0, 3), (20, 0), (2.0, 3), (20, True)])
    def test_counts_are_whole(self, change: tuple[int, int]) -> None:
        with pytest.raises(ProtocolError, match="RELEASE_PARAMETERS"):
            Release(change[0], 0.22, change[1], 1.0, 1e-5)

    def test_other_refusals(self) -> None:
        with pytest.raises(ProtocolError, match="PRODUCT_BASE_RATE"):
            Release(20, 0.0, 3, 1.0, 1e-5)
        with pytest.raises(ProtocolError, match="RELEASE_PARAMETERS"):
            ONE.bank_ring_sigma(0)

    def test_sum_and_noise_fit_the_ring(self) -> None:
        largest = max(map(abs, product.label_weights(0.22)))
        room = 2**39 - 10 * math.sqrt(2) * ONE.ring_sigma
        ONE.check_headroom(int(room // largest))
        with pytest.raises(ProtocolError, match="RING_WRAP"):
            ONE.check_headroom(int(room // largest) + 1)


class TestSpent:
    def _charge(
        self, release_: str = "r1", mu: float = 0.25, partner: str = "shop", cohort: str = "c1"
    ) -> Charge:
        return Charge(partner, cohort, release_, mu)

    def test_releases_compose_by_partner_and_cohort(self) -> None:
        spent = SpentPrivacy()
        for charge in (
            self._charge("r1"),
            self._charge("r2"),
            self._charge("r3", cohort="c2"),
            self._charge("r4", partner="state"),
        ):
            spent.charge(charge)
        assert spent.spent("shop", {"c1"}) == pytest.approx(0.25 * math.sqrt(2))
        assert spent.spent("shop", {"c1", "c2"}) == pytest.approx(0.25 * math.sqrt(3))
        assert spent.spent("shop") == pytest.approx(0.25 * math.sqrt(3))
        assert spent.spent("state", {"c1"}) == 0.25
        assert spent.spent("nobody") == 0.0

    def test_a_repeat_is_not_charged_again(self) -> None:
        spent = SpentPrivacy()
        for _ in range(3):
            spent.charge(self._charge())
        assert spent.spent("shop") == 0.25
        with pytest.raises(ProtocolError, match="RELEASE_CHARGE_CHANGED"):
            spent.charge(self._charge(mu=0.5))

    def test_a_second_roster_is_a_second_release(self) -> None:
        spent = SpentPrivacy()
        spent.charge(self._charge("roster-1"))
        spent.charge(self._charge("roster-2"))
        assert spent.spent("shop") == pytest.approx(0.25 * math.sqrt(2))

    def test_the_limit_stops_hard_and_survives_a_restart(self) -> None:
        limit = {"shop": 0.5}
        spent = SpentPrivacy(limit)
        for number in range(4):  # 4 · 0.25² = 0.5²
            spent.charge(self._charge(f"r{number}"))
            spent = SpentPrivacy.from_state(spent.to_state(), limit)
        with pytest.raises(NotApproved, match="PRIVACY_SPENT"):
            spent.charge(self._charge("r9", mu=0.01))
        spent.charge(self._charge("r9", cohort="c2"))
        spent.charge(self._charge("r9", partner="state", mu=9.0))
        assert spent.charges == SpentPrivacy.from_state(spent.to_state()).charges
        assert len(SpentPrivacy.from_state(spent.to_state(), {"shop": 0.0}).charges) == 6

    def test_what_approvers_are_shown(self) -> None:
        spent, mu = SpentPrivacy(), mu_of(1.0, 1e-5)
        assert spent.after("shop", {"c1"}, mu, 1e-5) == (0.0, pytest.approx(1.0))
        spent.charge(self._charge(mu=mu))
        now, then = spent.after("shop", {"c1"}, mu, 1e-5)
        assert now == pytest.approx(1.0)
        assert then == pytest.approx(epsilon_of(math.sqrt(2) * mu, 1e-5))

    @pytest.mark.parametrize("place", list(itertools.product(["", "x"], repeat=3)))
    def test_a_charge_is_complete(self, place: tuple[str, str, str]) -> None:
        if all(place):
            for mu in (0.0, -1.0, math.nan, math.inf):
                with pytest.raises(ProtocolError, match="RELEASE_CHARGE"):
                    Charge(*place, mu)
        else:
            with pytest.raises(ProtocolError, match="RELEASE_CHARGE"):
                Charge(*place, 1.0)
