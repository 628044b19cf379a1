"""The private release: how much noise, what it costs, what has been spent.

Specification: training protocol, step B5. A partner receives v = Σ a·z over the covered rows of all banks, with
z ∈ {−1, 1}^k the sign bits of its own rows and a = y − b₀, plus discrete Gaussian noise of variance σ² per
component from T, and as much again from the banks together.

*Unit*: one enterprise's bank-side record (membership and label) at all m banks that may hold it, added or
removed. A changed label is a removal and an addition: up to twice the μ. The partner's own rows, b₀, k and the
rosters are public to the reader.

**Sensitivity.** Δ = m·√k·max(b₀, 1 − b₀).

    Proof. Let an enterprise be added. Each of at most m banks adds one row, whose contribution to v is a·z for
    the partner's row z of that enterprise (or nothing, where the partner has none). Every entry of z is ±1
    whatever the partner chose, because z enters the product as a bit; so ‖z‖ = √k exactly. In fixed point
    a·2^f is one of the two integers `product.label_weights`, rounded before anything else, so |a| is at most
    the larger of their sizes over 2^f, which is max(b₀, 1 − b₀) up to 2^−(f + 1). By the triangle inequality
    the m contributions change v by at most m·√k·max|a| in the L2 norm. The bits don't depend on labels or
    memberships, and everything after v is post-processing. ∎  `Release.sensitivity` takes the rounded integers,
    so the bound holds to the bit.

**Privacy.** A Gaussian of standard deviation σ = Δ/μ is μ-GDP (Dong, Roth, Su, "Gaussian Differential Privacy",
JRSS B 2022, theorem 1), and (ε, δ) follows from their corollary 1 ::

    δ = Φ(−ε/μ + μ/2) − e^ε·Φ(−ε/μ − μ/2)

which `mu_of` solves for μ. μ's of several releases compose to √(Σμ²) (their corollary 2), with no loss.

    Noise on integers. Rounding a continuous Gaussian of scale s (in ring units) to integers commutes with adding
    the integer v, so it is post-processing and μ-GDP. The discrete Gaussian that is drawn instead has mass
    proportional to the density at the integers, the rounded one its integral over the unit cell. For |x| ≤ T·s,
    s ≥ T, their ratio is ∫ exp(−(2xt + t²)/2s²) dt over |t| ≤ ½ up to the norming, which is within 2e^(−2π²s²)
    of 1; by Jensen, and by cosh u ≤ exp(u²/2), its logarithm is at most T²/(20 s²) in size. With T = 10 + μ the
    box around either centre holds all but 2Φ(−10) < 2·10⁻²³ a component, so the released vector is
    (ε + 2η, e^η·δ + k·2·10⁻²³)-private with η = k·T²/(20 s²). Parameters with 2η above ε/1000 or δ below 10⁻¹²
    are refused: ε and δ are met within a thousandth. ∎

Invariants: a mechanism outside the proof is not built; noise is OpenDP's, exact and from a cryptographic
generator; a release is charged once per signed roster, before T's share leaves, and never refunded.

What each party learns: nothing here. Not covered: the partner's rows toward the banks (bins are exact functions
of the row); other releases on the same enterprises, which compose; collusion of a bank with the partner leaves
T's noise, of T with the partner the banks'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import ring
from protocol.errors import NotApproved, ProtocolError
from protocol.product import FRACTION_BITS, WIDTH, label_weights

_SLACK = 1e-3
"""Share of ε that the step from a rounded to a discrete Gaussian may cost."""

_BOX = 10.0
"""Standard deviations around a centre beyond which the proof counts everything as δ."""

_LEAST_DELTA = 1e-12


def _log_normal_tail(x: float) -> float:
    """Return log Φ(−x), by the continued fraction of Mills' ratio where erfc underflows."""
    if x < 30.0:
        return math.log(0.5 * math.erfc(x / math.sqrt(2.0)))
    ratio = x
    for term in range(60, 0, -1):
        ratio = x + term / ratio
    return -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) - math.log(ratio)


def delta_of(mu: float, epsilon: float) -> float:
    """Return δ(ε) of a μ-GDP mechanism (Dong, Roth, Su, corollary 1).

    >>> round(delta_of(1.0, 1.0), 6)
    0.126937
    """
    first = _log_normal_tail(epsilon / mu - mu / 2)
    second = epsilon + _log_normal_tail(epsilon / mu + mu / 2)
    return math.exp(first) * -math.expm1(min(0.0, second - first))


def _check_privacy(epsilon: float, delta: float) -> None:
    if not (math.isfinite(epsilon) and 0.0 < epsilon <= 100.0 and 0.0 < delta < 1e-2):
        raise ProtocolError("RELEASE_PARAMETERS", "ε lies between 0 and 100, δ between 0 and 0.01.")


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ whose mechanism is (ε, δ)-private, from below.

    >>> [round(1 / mu_of(e, 1e-5), 2) for e in (0.5, 1, 2, 4, 8)]
    [7.03, 3.73, 1.99, 1.08, 0.6]

    Raises:
        ProtocolError: ``RELEASE_PARAMETERS`` for ε or δ out of range.
    """
    _check_privacy(epsilon, delta)
    low, high = 0.0, 1.0
    while delta_of(high, epsilon) <= delta:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if middle > 0.0 and delta_of(middle, epsilon) > delta:
            high = middle
        else:
            low = middle
    return low


def epsilon_of(mu: float, delta: float) -> float:
    """Return the least ε for which a μ-GDP mechanism is (ε, δ)-private, from above; 0 for μ = 0.

    Raises:
        ProtocolError: ``RELEASE_PARAMETERS`` if μ is negative or not finite, or δ out of range.
    """
    if not math.isfinite(mu) or mu < 0.0 or not 0.0 < delta < 1e-2:
        raise ProtocolError("RELEASE_PARAMETERS", "μ can't be negative, and δ lies between 0 and 0.01.")
    if mu == 0.0 or delta_of(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(mu, high) > delta:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if delta_of(mu, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def compose(mus: Iterable[float]) -> float:
    """Return the μ of several releases together: √(Σμ²)."""
    return math.sqrt(math.fsum(mu * mu for mu in mus))


@dataclass(frozen=True)
class Release:
    """One release of v to a partner.

    Attributes:
        components: k.
        base_rate: b₀.
        memberships: m, the most banks that may hold one enterprise.
        epsilon: ε.
        delta: δ.
        fraction_bits: f of the product.
    """

    components: int
    base_rate: float
    memberships: int
    epsilon: float
    delta: float
    fraction_bits: int = FRACTION_BITS

    def __post_init__(self) -> None:
        _check_privacy(self.epsilon, self.delta)
        label_weights(self.base_rate, self.fraction_bits)
        for number in (self.components, self.memberships):
            if type(number) is not int or number < 1:
                raise ProtocolError("RELEASE_PARAMETERS", "Components and memberships are whole, from 1.")
        mu = self.mu
        cost = 2 * self.components * (_BOX + mu) ** 2 / (20 * self.ring_sigma**2)
        if cost > _SLACK * self.epsilon or self.delta < _LEAST_DELTA:
            raise ProtocolError(
                "RELEASE_TOO_COARSE",
                "The noise is so small, in units of the ring, that its proof doesn't hold.",
                "Take more fraction bits or a larger δ.",
            )

    @property
    def mu(self) -> float:
        """μ of this release against the noise of one side (T's, or the banks' together)."""
        return mu_of(self.epsilon, self.delta)

    @property
    def ring_sensitivity(self) -> float:
        """Δ·2^f, rounded up."""
        largest = max(abs(weight) for weight in label_weights(self.base_rate, self.fraction_bits))
        square = self.components * (self.memberships * largest) ** 2
        return math.nextafter(math.sqrt(square), math.inf)

    @property
    def sensitivity(self) -> float:
        """Δ: how far one enterprise can move v."""
        return math.ldexp(self.ring_sensitivity, -self.fraction_bits)

    @property
    def ring_sigma(self) -> float:
        """σ·2^f, rounded up: T's scale of the discrete Gaussian."""
        return math.nextafter(self.ring_sensitivity / self.mu, math.inf)

    @property
    def sigma(self) -> float:
        """σ = Δ/μ, in units of v."""
        return math.ldexp(self.ring_sigma, -self.fraction_bits)

    def bank_ring_sigma(self, banks: int) -> float:
        """Return each bank's scale σ·2^f/√N, so that N banks add σ² together."""
        if banks < 1:
            raise ProtocolError("RELEASE_PARAMETERS", "There is no bank to add noise.")
        return math.nextafter(self.ring_sigma / math.sqrt(banks), math.inf)

    def check_headroom(self, rows: int, width: int = WIDTH) -> None:
        """Refuse a release whose sum and noise could wrap in the ring.

        Args:
            rows: training rows of all banks.
            width: K.

        Raises:
            ProtocolError: ``RING_WRAP``.
        """
        largest = max(abs(weight) for weight in label_weights(self.base_rate, self.fraction_bits))
        ring.check_headroom(rows, float(largest), 0, math.sqrt(2.0) * self.ring_sigma, width)


def noise(ring_sigma: float, components: int) -> NDArray[np.uint64]:
    """Draw discrete Gaussian noise as ring elements, shape (components,).

    Args:
        ring_sigma: scale in units of the ring.
        components: how many.

    Raises:
        ProtocolError: ``RELEASE_PARAMETERS`` for a scale that is not positive, or no component.
    """
    if not (math.isfinite(ring_sigma) and ring_sigma > 0.0) or components < 1:
        raise ProtocolError("RELEASE_PARAMETERS", "Noise needs a positive scale and a component.")
    # Loaded here because it takes seconds, and only T and the banks draw.
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    drawn = dp.m.make_gaussian(*space, scale=ring_sigma)([0] * components)
    return np.array(drawn, dtype=np.int64).view(np.uint64)


@dataclass(frozen=True)
class Charge:
    """What one release has cost.

    Attributes:
        partner: who received it.
        cohort: which enterprises it is about (digest of the cohort's commitments).
        release: what makes it one release: the signed roster's digest.
        mu: μ.
    """

    partner: str
    cohort: str
    release: str
    mu: float

    def __post_init__(self) -> None:
        if not (self.partner and self.cohort and self.release and math.isfinite(self.mu) and self.mu > 0.0):
            raise ProtocolError("RELEASE_CHARGE", "A charge names partner, cohort, release and a positive μ.")


class SpentPrivacy:
    """What has been spent per (partner, cohort); nothing is ever given back.

    Overlapping cohorts compose: `spent` takes the cohorts that hold an enterprise, or all of a partner's.
    """

    def __init__(self, limit: Mapping[str, float] | None = None) -> None:
        """Begin.

        Args:
            limit: the largest total μ per partner and cohort, by partner; none where a partner isn't named.
        """
        self._limit = dict(limit or {})
        self._charges: dict[tuple[str, str, str], Charge] = {}

    def charge(self, charge: Charge) -> None:
        """Record a release; the caller stores the state before the roster's signature leaves.

        Raises:
            NotApproved: ``PRIVACY_SPENT`` if the partner's limit would be exceeded.
            ProtocolError: ``RELEASE_CHARGE_CHANGED`` if the release was charged with another μ.
        """
        place = (charge.partner, charge.cohort, charge.release)
        known = self._charges.get(place)
        if known is not None:
            if known != charge:
                raise ProtocolError("RELEASE_CHARGE_CHANGED", "A release is charged twice, unequally.")
            return
        limit = self._limit.get(charge.partner)
        after = compose([self.spent(charge.partner, {charge.cohort}), charge.mu])
        # A relative billionth: sums of squares of equal releases must not decide by their last bit.
        if limit is not None and after > limit * (1 + 1e-9):
            raise NotApproved(
                "PRIVACY_SPENT",
                f"The privacy budget toward {charge.partner} doesn't allow another release.",
                "Wait for another cohort, or have the budget raised by those who set it.",
            )
        self._charges[place] = charge

    def spent(self, partner: str, cohorts: Iterable[str] | None = None) -> float:
        """Return the total μ toward a partner, over the cohorts that are named or over all."""
        chosen = None if cohorts is None else set(cohorts)
        return compose(
            entry.mu
            for entry in self._charges.values()
            if entry.partner == partner and (chosen is None or entry.cohort in chosen)
        )

    def after(self, partner: str, cohorts: Iterable[str], mu: float, delta: float) -> tuple[float, float]:
        """Return ε now and ε after one more release of μ, for those who approve a job."""
        now = self.spent(partner, cohorts)
        return epsilon_of(now, delta), epsilon_of(compose([now, mu]), delta)

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, in their order."""
        return tuple(self._charges.values())

    def to_state(self) -> list[dict[str, Any]]:
        """Return the record as a JSON value."""
        return [
            {"partner": c.partner, "cohort": c.cohort, "release": c.release, "mu": c.mu} for c in self.charges
        ]

    @classmethod
    def from_state(
        cls, state: Iterable[Mapping[str, Any]], limit: Mapping[str, float] | None = None
    ) -> SpentPrivacy:
        """Restore the record; what was spent stands, whatever the limit says now."""
        spent = cls(limit)
        for entry in state:
            charge = Charge(**entry)
            spent._charges[(charge.partner, charge.cohort, charge.release)] = charge
        return spent
