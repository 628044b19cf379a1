"""What a demo says of partners: coverage from its own tables, spending from the signers' records."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from concordat.consents import Consents
from concordat.joint import coverage_of, partners_of, spent_of
from node.ingest import Table
from node.keep import MemoryKeep
from protocol.job import Manifest, PartnerTerms, Vertical
from protocol.release import Charge, SpentPrivacy, epsilon_of, mu_of

TERMS = Vertical(
    partners=("city", "market"), compute="neutral", epoch="e", base_rate=0.1, rows=20_480, components=20
)
BANKS = ("bank-1", "bank-2", "bank-3")


def manifest() -> Manifest:
    """A manifest as far as it is read here."""
    stated = {
        "city": PartnerTerms(slots=32_768, components=20, training={}, serving={}),
        "market": PartnerTerms(slots=28_672, components=18, training={}, serving={}),
    }
    return cast(
        "Manifest",
        SimpleNamespace(
            proposal=SimpleNamespace(banks=BANKS),
            enlistment=lambda party: SimpleNamespace(partner=stated[party]),
        ),
    )


def kept(*mus: float, partner: str = "city") -> MemoryKeep:
    spent = SpentPrivacy()
    for number, mu in enumerate(mus):
        spent.charge(Charge(partner, "cohort", f"release {number}", mu))
    keep = MemoryKeep()
    keep.put("privacy", "spent", json.dumps(spent.to_state()).encode())
    return keep


def table(ids: list[str]) -> Table:
    frame = pd.DataFrame({"x": np.zeros(len(ids))}, index=pd.Index(ids))
    return cast("Table", SimpleNamespace(frame=frame, rows=len(ids)))


class TestSpent:
    def test_states_the_release_and_the_noise_that_the_partner_meets(self) -> None:
        found = spent_of(manifest(), TERMS, ["city"], [kept(0.268)])["city"]
        mu = mu_of(1.0, 1e-5)
        assert (found["epsilon"], found["delta"], found["mu"]) == (1.0, 1e-5, mu)
        assert found["memberships"] == 3
        assert found["sigma"] == pytest.approx(3 * math.sqrt(20) * 0.9 / mu, rel=1e-3)
        assert found["noise"] == pytest.approx(math.sqrt(2) * found["sigma"])

    def test_total_composes_all_releases_not_this_one_alone(self) -> None:
        found = spent_of(manifest(), TERMS, ["city"], [kept(0.268, 0.268)])["city"]
        assert found["releases"] == 2
        assert found["total_mu"] == pytest.approx(0.268 * math.sqrt(2))
        assert found["total_epsilon"] == pytest.approx(epsilon_of(0.268 * math.sqrt(2), 1e-5))

    def test_the_largest_record_of_all_signers_counts(self) -> None:
        found = spent_of(manifest(), TERMS, [], [MemoryKeep(), kept(0.1), kept(0.1, 0.3)])["city"]
        assert (found["releases"], found["total_mu"]) == (2, pytest.approx(math.hypot(0.1, 0.3)))

    def test_a_partner_without_a_release_has_spent_nothing(self) -> None:
        found = spent_of(manifest(), TERMS, ["city"], [kept(0.268)])["market"]
        assert (found["released"], found["total_epsilon"], found["releases"]) == (False, 0.0, 0)

    def test_exact_release_is_stated_as_such(self) -> None:
        exact = TERMS.model_copy(update={"epsilon": None})
        found = spent_of(manifest(), exact, ["city"], [MemoryKeep()])["city"]
        assert [found[name] for name in ("epsilon", "delta", "mu", "sigma", "noise")] == [None] * 5


class TestPartners:
    def test_who_published_is_the_partner_s_word_and_who_is_used_the_model_s(self) -> None:
        told: dict[str, Any] = {
            "city": {"published": True, "seconds": {"tables": 9.7}},
            "market": {"published": False, "seconds": {}},
            "neutral": {"given": ["city"]},
        }
        found = partners_of(manifest(), TERMS, told, ["city"], {})
        assert [found["city"][name] for name in ("published", "used", "released")] == [True] * 3
        assert [found["market"][name] for name in ("published", "used", "released")] == [False] * 3
        assert found["city"]["seconds"] == {"tables": 9.7}
        assert (found["market"]["slots"], found["market"]["components"]) == (28_672, 18)

    def test_a_silent_partner_published_nothing(self) -> None:
        assert partners_of(manifest(), TERMS, {}, [], {})["market"]["published"] is False

    def test_questions_are_those_of_the_banks_logs(self) -> None:
        log = [
            {"peer": "city", "purpose": "ask.training", "field_class": "", "records": 1, "bytes": 199},
            {"peer": "city", "purpose": "ask.training.0", "field_class": "", "records": 1, "bytes": 196_803},
        ]
        found = partners_of(manifest(), TERMS, {}, [], {"bank-1": log})
        assert found["city"]["asked"] == {"bank-1": {"training": 6144, "serving": 0}}
        assert found["market"]["asked"] == {"bank-1": {"training": 0, "serving": 0}}


class TestCoverage:
    def test_shares_are_of_the_bank_s_clients(self) -> None:
        found = coverage_of({"bank-1": table(["a", "b", "c", "d"])}, {"city": table(["b", "c", "z"])}, None)
        assert found == {"city": {"bank-1": {"clients": 4, "listed": 0.5, "consented": 0.5, "bins": 2}}}

    def test_withdrawn_and_missing_codes_are_no_consent(self) -> None:
        clients = [f"c{number}" for number in range(400)]
        consents = Consents({"bank-1": frozenset(clients)}, {"city": frozenset(clients)}, 0.2, 0.1)
        codes = consents.of_partner("city")["bank-1"]
        withdrawn = sum(code is None for code in codes.values())
        found = coverage_of({"bank-1": table(clients)}, {"city": table(clients)}, consents)["city"]["bank-1"]
        assert found["listed"] == 1.0
        assert 0 < withdrawn < len(codes) < 400
        assert found["bins"] == len(codes) - withdrawn
        assert found["consented"] == found["bins"] / 400
