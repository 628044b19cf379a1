"""DP-SGD: the released noise has the accounted variance, clipping holds, budgets are kept, misuse is refused."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bank_node import privacy
from bank_node.privacy import (
    GRID,
    DpTrainer,
    Plan,
    add_noise,
    gaussians,
    noise_histogram,
    plan_for,
    uniform_choice,
)
from bank_node.training import Seeds, half_of
from protocol import metrics, ring
from protocol.errors import ConfigurationError, DataError, ProtocolError
from protocol.job import DpRecipe, Release

RECIPE = DpRecipe(hidden=(4,), rounds=2, local_epochs=1, batch=50, learning_rate=1.0, clip=1.0)
# A small budget takes much noise, at which the accountants are quick.
RELEASE = Release(kind="dp", epsilon=2.0, delta=1e-5)
SALT = b"sixteen bytes ok"
SEEDS = Seeds(b"c" * 32, b"o" * 32)


def rows(n: int = 400, width: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(0))
    x = rng.normal(size=(n, width)).astype(np.float32)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(np.int8)
    return x, y, half_of([str(i) for i in range(n)], SALT)


def trainer(
    recipe: DpRecipe = RECIPE, release: Release = RELEASE, memberships: int = 1, seeds: Seeds = SEEDS
) -> DpTrainer:
    return DpTrainer(recipe, *rows(), seeds, 0.0, release, memberships=memberships)


def one_step(monkeypatch: pytest.MonkeyPatch, multiplier: float, rate: float = 1 - 2**-53) -> None:
    monkeypatch.setattr(privacy, "plan_for", lambda *_: Plan(rate=rate, steps=1, multiplier=multiplier))


def test_gaussians_are_standard_and_independent() -> None:
    draws = gaussians(b"k" * 32, 200_001)
    assert draws.shape == (200_001,)
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    half = 100_001
    paired = np.corrcoef(draws[: half - 1], draws[half:])[0, 1]
    assert abs(paired) < 5 / math.sqrt(half)
    assert abs(np.corrcoef(draws[: half - 1] ** 2, draws[half:] ** 2)[0, 1]) < 5 / math.sqrt(half)
    assert 4.0 < np.abs(draws).max() < 6.5
    assert (gaussians(b"l" * 32, 10) != draws[:10]).all()


def test_the_radius_reaches_the_far_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "words", lambda _, n: np.zeros(n, dtype=np.uint64))
    assert gaussians(b"k" * 32, 2)[0] == pytest.approx(math.sqrt(128 * math.log(2)))
    monkeypatch.setattr(privacy, "words", lambda _, n: np.full(n, 2**64 - 1, dtype=np.uint64))
    assert np.isfinite(gaussians(b"k" * 32, 2)).all()


def test_poisson_batches_have_the_accounted_rate() -> None:
    sizes = [len(uniform_choice(i.to_bytes(32, "big"), 1000, 0.1)) for i in range(400)]
    assert np.mean(sizes) == pytest.approx(100, abs=2.5)
    assert np.var(sizes) == pytest.approx(90, rel=0.35)
    counts = np.bincount(
        np.concatenate([uniform_choice(i.to_bytes(32, "big"), 1000, 0.1) for i in range(400)]), minlength=1000
    )
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_sum_and_its_noise_lie_on_the_grid() -> None:
    sums = np.random.Generator(np.random.PCG64(0)).normal(size=1000)
    noisy = add_noise(sums, 2.0, GRID, b"k" * 32)
    np.testing.assert_array_equal(noisy / GRID, np.rint(noisy / GRID))
    # Sums that round to the same grid point can't be told apart by any bit of the result.
    nearby = np.rint(sums / GRID) * GRID + 0.2 * GRID
    np.testing.assert_array_equal(add_noise(nearby, 2.0, GRID, b"k" * 32), noisy)


@pytest.mark.parametrize("deviation", [0.0, GRID, -1.0, math.nan, math.inf])
def test_noise_that_hides_nothing_is_refused(deviation: float) -> None:
    with pytest.raises(ProtocolError):
        add_noise(np.zeros(3), deviation, GRID, b"k" * 32)
    with pytest.raises(ProtocolError):
        add_noise(np.array([math.nan]), 1.0, GRID, b"k" * 32)


def test_the_released_noise_has_the_accounted_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    # White box: one step of rate one, learning rate one: start - result = (sum + noise) / batch. Two keys of the
    # noise on the same sum leave the difference of two noises, of twice the accounted variance.
    one_step(monkeypatch, multiplier=3.0)
    recipe = DpRecipe(hidden=(64,), rounds=1, batch=512, learning_rate=1.0, clip=0.5)
    seeds = [Seeds(b"c" * 32, bytes([i]) * 32) for i in range(12)]
    trainers = [DpTrainer(recipe, *rows(width=20), seed, 0.0, RELEASE, memberships=1) for seed in seeds]
    start = trainers[0].initial()
    found = np.stack([one.local_pass(start, 1) for one in trainers]).astype(np.float64)
    found *= trainers[0].rows[None, :, None]
    variance = found.var(axis=0, ddof=1)
    expected = (3.0 * (0.5 + 0.5 * GRID * math.sqrt(trainers[0].shape.parameters))) ** 2
    assert variance.mean() / expected == pytest.approx(1.0, abs=0.04)
    # Every coordinate is noised: of each network, each layer, bias and skip.
    assert variance.min() > 0.1 * expected


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_one_row_moves_a_step_by_no_more_than_the_clip(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    one_step(monkeypatch, multiplier=1.0)
    # The noise stays (same keys), so that the difference is the sum's alone.
    recipe = DpRecipe(hidden=(4,), rounds=1, batch=512, learning_rate=1.0, clip=1.0)
    x, y, halves = rows()
    y[:] = 0
    y[10:30] = 1
    x[7] *= scale
    zeroed = x.copy()
    zeroed[7] = 0
    whole = DpTrainer(recipe, x, y, halves, SEEDS, 0.0, RELEASE, memberships=1)
    start = whole.initial()
    flipped = y.copy()
    flipped[7] = 1
    a = whole.local_pass(start, 1)
    other = DpTrainer(recipe, x, flipped, halves, SEEDS, 0.0, RELEASE, memberships=1)
    b = other.local_pass(start, 1)
    moved = np.linalg.norm((a - b).astype(np.float64), axis=1) * whole.rows
    touched = [whole.shape.half(i) == halves[7] for i in range(2)]
    # A changed row is one removed and one added: twice the clip.
    for i in range(2):
        assert moved[i] <= 2.0 + 1e-3
        assert (moved[i] > 0.5) == touched[i]


def test_a_batch_in_pieces_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "plan_for", lambda *_: Plan(rate=0.9, steps=2, multiplier=1.0))
    recipe = RECIPE.model_copy(update={"rounds": 1})
    whole, pieces = trainer(recipe), trainer(recipe)
    start = whole.initial()
    expected = whole.local_pass(start, 1)
    monkeypatch.setattr(privacy, "_PIECE_ROWS", 7)
    np.testing.assert_allclose(pieces.local_pass(start, 1), expected, atol=1e-6)


def test_an_empty_batch_is_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one_step(monkeypatch, multiplier=1.0, rate=1e-9)
    one = trainer()
    start = one.initial()
    moved = one.local_pass(start, 1) - start
    assert np.isfinite(moved).all()
    assert moved.std() == pytest.approx(1.0, rel=0.3)


def test_the_accountant_keeps_the_budget_and_counts_everything() -> None:
    one = trainer()
    assert one.epsilon(1e-5) == 0.0
    assert 1.9 < one.planned_epsilon(1e-5) <= 2.0
    start = one.initial()
    one.local_pass(start, 1)
    first = one.epsilon(1e-5)
    assert 0 < first < one.planned_epsilon(1e-5)
    one.local_pass(start, 2)
    assert one.epsilon(1e-5) == pytest.approx(one.planned_epsilon(1e-5))
    report = one.report()
    assert report["epsilon"] <= 2.0
    assert report["memberships"] == 1
    # A trainer that comes back for the last round has spent the rounds before it too.
    back = trainer()
    back.local_pass(start, 2)
    assert back.epsilon(1e-5) == pytest.approx(one.epsilon(1e-5))


def test_more_banks_or_a_smaller_budget_take_more_noise() -> None:
    base = trainer().plan
    assert trainer(memberships=3).plan.multiplier > base.multiplier
    smaller = Release(kind="dp", epsilon=0.5, delta=1e-5)
    assert trainer(release=smaller).plan.multiplier > base.multiplier


def test_the_noise_agrees_with_a_second_accountant() -> None:
    import dp_accounting
    from dp_accounting.pld import privacy_loss_distribution

    plan = plan_for(3500, DpRecipe(), 1, 8.0, 1e-5)
    one = privacy_loss_distribution.from_gaussian_mechanism(
        plan.multiplier,
        sampling_prob=plan.rate,
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    )
    assert one.self_compose(plan.steps * 5).get_epsilon_for_delta(1e-5) == pytest.approx(8.0, abs=0.15)


def test_a_round_is_trained_once() -> None:
    one = trainer()
    start = one.initial()
    first = one.local_pass(start, 1)
    np.testing.assert_array_equal(one.local_pass(start, 1), first)
    with pytest.raises(ProtocolError) as refused:
        one.local_pass(start + np.float32(0.001), 1)
    assert refused.value.code == "DP_ROUND_REPEATED"


def test_no_key_makes_two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "plan_for", lambda *_: Plan(rate=0.2, steps=3, multiplier=1.0))
    seen: list[bytes] = []
    real = privacy.words

    def noted(key: bytes, n: int) -> np.ndarray:
        seen.append(key)
        return real(key, n)

    monkeypatch.setattr(privacy, "words", noted)
    one = trainer()
    start = one.initial()
    one.local_pass(start, 1)
    one.local_pass(start, 2)
    # A batch and a noise for each of two rounds, two networks, three steps.
    assert len(seen) == len(set(seen)) == 2 * 2 * 2 * 3


def test_equal_secrets_give_equal_bits_and_others_don_t() -> None:
    one, two, other = trainer(), trainer(), trainer(seeds=Seeds(b"c" * 32, b"x" * 32))
    start = one.initial()
    state = torch.get_rng_state()
    np.testing.assert_array_equal(one.local_pass(start, 1), two.local_pass(start, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (one.local_pass(start, 1) != other.local_pass(start, 1)).mean() > 0.99


@pytest.mark.parametrize(
    ("release", "memberships"),
    [
        (Release(), 1),
        (Release(kind="dp", epsilon=8.0, delta=9e-3), 1),
        (Release(kind="dp", epsilon=1e-9, delta=1e-12), 1),
        (RELEASE, 0),
    ],
)
def test_a_budget_that_can_t_be_is_refused(release: Release, memberships: int) -> None:
    with pytest.raises(ConfigurationError):
        trainer(release=release, memberships=memberships)


def test_rows_and_weights_are_checked_as_without_privacy() -> None:
    x, y, halves = rows()
    with pytest.raises(DataError):
        DpTrainer(RECIPE, x, y + 1, halves, SEEDS, 0.0, RELEASE, memberships=1)
    one = trainer()
    for weights, round_ in ((one.initial()[:, 1:], 1), (one.initial() * np.nan, 1), (one.initial(), 3)):
        with pytest.raises(ProtocolError):
            one.local_pass(weights, round_)


def test_a_histograms_noise_has_the_accounted_variance_and_cancels_in_the_mean() -> None:
    edges = np.linspace(0, 1, 65)
    rng = np.random.Generator(np.random.PCG64(3))
    score = rng.random(5000)
    vector = metrics.to_vector(metrics.histogram(edges, score, (rng.random(5000) < score).astype(np.int8)))
    noise = np.stack([ring.signed(noise_histogram(vector, RELEASE, 3) - vector) for _ in range(60)])
    counts = 2 * 64
    log = -math.log(1e-5)
    rho = (math.sqrt(log + 2.0) - math.sqrt(log)) ** 2
    assert rho + 2 * math.sqrt(rho * log) == pytest.approx(2.0)
    variance = 3 * 3 / (2 * rho)
    assert noise[:, :counts].var() == pytest.approx(variance, rel=0.06)
    scaled = noise[:, counts:] / 2.0**metrics.FRACTION_BITS
    assert scaled.var() == pytest.approx(variance, rel=0.1)
    assert abs(noise[:, :counts].mean()) < 5 * math.sqrt(variance / (60 * counts))
    with pytest.raises(ConfigurationError):
        noise_histogram(vector, Release(), 3)
