"""Test 7: what the partner's own view, v with its noise, tells of one enterprise: no more than is accounted.

A canary is with all banks, as a default, or with none; the partner chooses its table and knows everything else.
Noise comes from a stated seed, by an exact sampler that is checked against the product's, so that a bound at 2.33
standard errors raises no false alarm. Each planted bug turns the bounds red.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp, norm
from vertical_world import BANKS, BASE_RATE, World, roster_of

from protocol import join, product, release
from protocol.release import Release

THREE = BANKS[:3]
DRAWS, K, N = 5_000, 8, 60
RELEASE = Release(components=K, base_rate=BASE_RATE, memberships=3, epsilon=1.0, delta=1e-5)
FACED = RELEASE.mu / math.sqrt(2.0)
"""μ of the noise that the partner faces: of variance 2σ², T's and the banks'."""

TABLES = ("random", "rare level", "zero but target")


def draw(scale: float, shape: tuple[int, ...], seed: int) -> NDArray[np.int64]:
    """Discrete Gaussian from a stated seed, by inversion of its distribution function within 9 σ."""
    reach = math.ceil(9 * scale)
    mass = np.exp(-0.5 * (np.arange(-reach, reach + 1) / scale) ** 2)
    cumulative = np.cumsum(mass)
    uniform = np.random.Generator(np.random.PCG64(seed)).random(shape) * cumulative[-1]
    return np.searchsorted(cumulative, uniform, side="right") - reach


@pytest.fixture(scope="module")
def noise() -> dict[str, NDArray[np.int64]]:
    """Noise of T and of each bank in every draw, without and with the canary; shape (2, DRAWS, K)."""
    shape = (2, DRAWS, K)
    parts = {bank: draw(RELEASE.bank_ring_sigma(3), shape, at) for at, bank in enumerate(THREE)}
    return {"T": draw(RELEASE.ring_sigma, shape, 3), **parts}


def bits_of(table: str) -> NDArray[np.uint8]:
    """The partner's bits; the canary is its first enterprise."""
    bits = np.random.Generator(np.random.PCG64(21)).integers(0, 2, (N, K), dtype=np.uint8)
    if table == "rare level":
        bits[:, K // 2 :] = 0
        bits[0, K // 2 :] = 1
    elif table == "zero but target":
        bits[:] = 0
        bits[0] = 1
    return bits


def world_of(table: str, canary: bool) -> World:
    """Banks with common clients; the canary, where it is in, is a default at all of them."""
    world = World.random(22, n=N, k=K, rows=30, coverage=0.8)
    world.bits = bits_of(table)
    for bank in THREE:
        kept = np.array([name != world.names[0] for name in world.cohorts[bank]])
        world.cohorts[bank] = [n for n, stays in zip(world.cohorts[bank], kept, strict=True) if stays]
        world.outcomes[bank] = world.outcomes[bank][kept]
        if canary:
            world.cohorts[bank].append(world.names[0])
            world.outcomes[bank] = np.append(world.outcomes[bank], True)
    return world


def releases(table: str, noise: dict[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    """The partner's view in every draw, shape (2, DRAWS, K)."""
    plain = np.stack([world_of(table, canary).plain(THREE) for canary in (False, True)])
    return (plain[:, None, :] + sum(noise.values())).astype(np.float64)


def scores(table: str, seen: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the partner makes of v, knowing all but the canary: likelihood ratio, sum, largest move."""
    without = world_of(table, False).plain(THREE).astype(np.float64)
    signs = 2.0 * bits_of(table)[0] - 1
    off = seen - without
    return {"likelihood": off @ signs, "one component": off[..., -1] * signs[-1], "size": (off**2).sum(-1)}


def violations(table: str, noise: dict[str, NDArray[np.int64]]) -> list[str]:
    """Attacks that read more than `FACED` allows."""
    found = []
    for name, (out, inside) in scores(table, releases(table, noise)).items():
        order = np.searchsorted(np.sort(out), inside)
        area = float(order.mean() / DRAWS)
        area_se = math.sqrt((2 * DRAWS + 1) / (12 * DRAWS**2))
        if area > norm.cdf(FACED / math.sqrt(2)) + 2.33 * area_se:
            found.append(f"{name}: AUC {area:.4f}")
        rate = float((inside > np.quantile(out, 0.99)).mean())
        bound = float(norm.cdf(FACED - 2.326))
        # The threshold is an estimate as well: its error counts by the ratio of the densities there.
        slope = norm.pdf(FACED - 2.326) / norm.pdf(2.326)
        rate_se = math.sqrt((bound * (1 - bound) + slope**2 * 0.01 * 0.99) / DRAWS)
        if rate > bound + 2.33 * rate_se:
            found.append(f"{name}: TPR {rate:.4f}")
    return found


@pytest.mark.parametrize("table", TABLES)
def test_the_partner_reads_no_more_than_is_accounted(table: str, noise: dict[str, NDArray[np.int64]]) -> None:
    assert violations(table, noise) == []


@pytest.mark.parametrize("table", TABLES)
def test_the_attack_is_the_strongest(table: str, noise: dict[str, NDArray[np.int64]]) -> None:
    """The likelihood ratio attains the bound from below as well: the test above would see a weaker noise."""
    out, inside = scores(table, releases(table, noise))["likelihood"]
    area = np.searchsorted(np.sort(out), inside).mean() / DRAWS
    assert area > norm.cdf(FACED / math.sqrt(2)) - 0.02


@pytest.mark.parametrize("table", TABLES)
def test_the_canary_moves_what_the_protocol_opens_by_the_sensitivity(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plaintext sums above are those of the real join, product and opening."""
    monkeypatch.setattr(join, "BLOCK", 32)
    opened = []
    for canary in (False, True):
        world = world_of(table, canary).join_and_multiply()
        opened.append(world.opened(roster_of()))
        assert opened[-1].tolist() == world.plain(THREE).tolist()
    moved = (opened[1] - opened[0]).astype(np.float64)
    assert np.linalg.norm(moved) == pytest.approx(RELEASE.ring_sensitivity, abs=1e-6)
    assert (
        moved.tolist() == (3 * product.label_weights(BASE_RATE)[1] * (2.0 * bits_of(table)[0] - 1)).tolist()
    )


def test_the_stated_noise_is_distributed_as_the_products() -> None:
    """Kolmogorov and Smirnov over 20,000 draws each, at a level that no honest run meets."""
    real = release.noise(RELEASE.ring_sigma, 20_000).view(np.int64)
    assert ks_2samp(real, draw(RELEASE.ring_sigma, (20_000,), 9)).pvalue > 1e-9
    small = release.noise(2.5, 20_000).view(np.int64)
    assert ks_2samp(small, draw(2.5, (20_000,), 10)).pvalue > 1e-9


class TestRed:
    @pytest.mark.parametrize("missing", [("T",), THREE])
    def test_noise_of_one_side_is_missing(
        self, missing: tuple[str, ...], noise: dict[str, NDArray[np.int64]]
    ) -> None:
        left = {party: part for party, part in noise.items() if party not in missing}
        found = [one for table in TABLES for one in violations(table, left)]
        assert sum("likelihood: AUC" in one for one in found) >= 2

    def test_the_sensitivity_is_halved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Release.ring_sensitivity.fget  # type: ignore[attr-defined]
        monkeypatch.setattr(Release, "ring_sensitivity", property(lambda self: honest(self) / 2))
        shape = (2, DRAWS, K)
        weak = {"T": draw(RELEASE.ring_sigma, shape, 3), "banks": draw(RELEASE.ring_sigma, shape, 4)}
        found = [violations(table, weak) for table in TABLES]
        assert all(any("likelihood: AUC" in one for one in table) for table in found)
        assert any("likelihood: TPR" in one for table in found for one in table)

    def test_a_release_that_counts_one_bank_only(self) -> None:
        """An enterprise at three banks moves v three times as far as σ was made for."""
        one = Release(components=K, base_rate=BASE_RATE, memberships=1, epsilon=1.0, delta=1e-5)
        shape = (2, DRAWS, K)
        weak = {"T": draw(one.ring_sigma, shape, 5), "banks": draw(one.ring_sigma, shape, 6)}
        assert all(violations(table, weak) for table in TABLES)
