"""Two controls for the reader, and what sub-scores tell of a partner's columns (test 13).

What is usually built leaks: gradients of a split network are labels, a plain intersection is a client list. The
same attacks on what runs here find nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from joint_sessions import HELD, LISTED, PARTNER, TRAINED, Joint, Market
from numpy.typing import NDArray
from scipy.stats import norm

from protocol import product, release, vertical, voprf
from protocol.group import ELEMENT_BYTES, multiply
from protocol.join import bucketed
from protocol.release import Release
from protocol.subscore import sign_bits


def area(score: NDArray[np.float64], outcomes: NDArray[np.bool_]) -> float:
    """AUC, without a direction: the attacker may turn the score around."""
    order = np.searchsorted(np.sort(score[~outcomes]), score[outcomes], side="left").mean()
    found = float(order / (~outcomes).sum())
    return max(found, 1 - found)


class TestSplitNetwork:
    """A split network: the label holder returns a gradient for each row to the holder of the features."""

    ROWS, FEATURES, CUT, HIDDEN = 2_000, 20, 8, 16

    def _data(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        draw = np.random.Generator(np.random.PCG64(31))
        x = draw.standard_normal((self.ROWS, self.FEATURES))
        # Labels that have nothing to do with the features: whatever is read of them, no model has told.
        return x, draw.random(self.ROWS) < 0.2

    def _gradients(self, steps: int) -> NDArray[np.float64]:
        """What the feature holder receives in the last of some steps, shape (ROWS, CUT)."""
        x, outcomes = self._data()
        draw = np.random.Generator(np.random.PCG64(32))
        bottom = draw.standard_normal((self.FEATURES, self.CUT)) / math.sqrt(self.FEATURES)
        middle = draw.standard_normal((self.CUT, self.HIDDEN)) / math.sqrt(self.CUT)
        top = draw.standard_normal(self.HIDDEN) / math.sqrt(self.HIDDEN)
        given = np.zeros((self.ROWS, self.CUT))
        for _ in range(steps):
            cut = x @ bottom
            hidden = np.tanh(cut @ middle)
            error = 1 / (1 + np.exp(-(hidden @ top))) - outcomes
            back = (error[:, None] * top) * (1 - hidden**2)
            given = back @ middle.T
            top = top - 0.5 * hidden.T @ error / self.ROWS
            middle = middle - 0.5 * cut.T @ back / self.ROWS
            bottom = bottom - 0.5 * x.T @ given / self.ROWS
        return given

    @staticmethod
    def _spectral(given: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project the rows on the first right singular vector."""
        vector = np.linalg.svd(given, full_matrices=False)[2][0]
        return np.asarray(given @ vector)

    @pytest.mark.parametrize("steps", [1, 10, 50])
    def test_its_gradients_are_the_labels(self, steps: int) -> None:
        _, outcomes = self._data()
        assert area(self._spectral(self._gradients(steps)), outcomes) >= 0.99

    def test_one_private_vector_is_not(self) -> None:
        """All that a partner receives here, put to the best linear use, on labels that no feature tells."""
        x, outcomes = self._data()
        signs = 2.0 * sign_bits(x) - 1
        terms = Release(self.FEATURES, 0.2, 3, 1.0, 1e-5)
        noise = sum(release.noise(terms.ring_sigma, self.FEATURES).view(np.int64) for _ in range(2))
        v = signs.T @ product.weights(outcomes, 0.2) + noise
        bound = float(norm.cdf(terms.mu / math.sqrt(2)))
        # Four standard errors: the noise is drawn anew in every run.
        n, m = int(outcomes.sum()), int((~outcomes).sum())
        assert area(signs @ v, outcomes) <= bound + 4 * math.sqrt((n + m + 1) / (12 * n * m))


class TestPlainIntersection:
    """A plain intersection of hashed ids tells the partner who is a client; the join here doesn't."""

    @pytest.fixture(scope="module")
    @staticmethod
    def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Joint, Joint]:
        """All clients of bank-1 are listed; none is."""
        market = Market.open(tmp_path_factory.mktemp("market"))
        found = market.joint(), market.joint((0.0, 1.0, 1.0))
        for world in found:
            world.run()
        return found

    @staticmethod
    def _clients(world: Joint) -> set[str]:
        return {one for one in world.cohorts["bank-1"] if one in world.market.signs}

    @staticmethod
    def _received(world: Joint) -> list[bytes]:
        """Everything that the partner reads of bank-1."""
        return [world.content(e) for e in world.sent("bank-1") if e.recipient == PARTNER]

    @staticmethod
    def _by_dictionary(world: Joint, messages: Sequence[bytes]) -> set[str]:
        """Try every listed id in every spelling, against every 32 bytes that came."""
        pieces = {m[at : at + ELEMENT_BYTES] for m in messages for at in range(0, len(m), ELEMENT_BYTES)}
        listed = world.market.ids[:LISTED]
        inputs = [voprf.enterprise_input("uscc", one) for one in listed]
        tried: list[Mapping[str, bytes]] = [
            {one: hashlib.sha256(one.encode()).digest() for one in listed},
            {one: hashlib.sha256(data).digest() for one, data in zip(listed, inputs, strict=True)},
            dict(zip(listed, voprf.hash_inputs(inputs), strict=True)),
        ]
        role = world.roles[PARTNER]
        own = role._table()  # type: ignore[union-attr]
        for purpose in (vertical.TRAINING, vertical.SERVING):
            key = own.key(purpose, "2026-4", "bank-1")
            points = [multiply(key.secret, one) for one in tried[2].values()]
            tried.append(dict(zip(listed, points, strict=True)))
        return {one for spelling in tried for one, data in spelling.items() if data in pieces}

    def test_hashed_ids_tell_every_client(self, worlds: tuple[Joint, Joint]) -> None:
        for world in worlds:
            sent = b"".join(hashlib.sha256(one.encode()).digest() for one in world.cohorts["bank-1"])
            assert self._by_dictionary(world, [sent]) == self._clients(world)
        assert len(self._clients(worlds[0])) == TRAINED + HELD

    def test_what_the_partner_receives_tells_none(self, worlds: tuple[Joint, Joint]) -> None:
        for world in worlds:
            assert self._by_dictionary(world, self._received(world)) == set()

    def test_what_the_partner_receives_has_one_size(self, worlds: tuple[Joint, Joint]) -> None:
        one, other = ([len(m) for m in self._received(world)] for world in worlds)
        assert one == other
        assert ELEMENT_BYTES * bucketed(TRAINED) in one

    def test_red_points_that_are_not_blinded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        unit = (1).to_bytes(ELEMENT_BYTES, "little")
        monkeypatch.setattr(voprf, "blinds", lambda _key, _label, n: [unit] * n)
        world = Market.open(tmp_path).joint()
        world.run()
        assert self._by_dictionary(world, self._received(world)) == self._clients(world)
