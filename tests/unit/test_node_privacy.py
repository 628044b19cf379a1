"""The record of spent privacy: charged before a signature exists, limited, never twice for one release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol.errors import NotApproved
from protocol.opening import Roster
from protocol.partner_opening import ReleaseRoster
from protocol.release import epsilon_of, mu_of

MU = mu_of(1.0, 1e-5)


def roster(attempt: int = 0, partner: str = "shop") -> ReleaseRoster:
    return ReleaseRoster(Roster.of("j" * 64, attempt, ("bank-1", "bank-2", "bank-3")), "compute", partner)


class Signer:
    """Signs, and remembers what was charged at that moment."""

    def __init__(self, keep: MemoryKeep) -> None:
        self.keep, self.charged = keep, [0]

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        self.charged.append(len(PrivacyBook(self.keep).spent().charges))
        return {"kind": kind, "body": body}


def test_a_release_is_charged_before_it_is_signed() -> None:
    keep = MemoryKeep()
    signer = Signer(keep)
    signed = json.loads(PrivacyBook(keep).sign(signer, roster(), "c", MU))  # type: ignore[arg-type]
    assert signed["body"] == roster().body
    assert signer.charged == [0, 1]


def test_a_repeat_costs_nothing_and_another_attempt_does() -> None:
    keep = MemoryKeep()
    book, signer = PrivacyBook(keep), Signer(keep)
    for _ in range(2):
        book.sign(signer, roster(), "c", MU)  # type: ignore[arg-type]
    assert len(book.spent().charges) == 1
    book.sign(signer, roster(1), "c", MU)  # type: ignore[arg-type]
    assert epsilon_of(book.spent().spent("shop"), 1e-5) > 1.3


def test_beyond_the_limit_nothing_is_signed_or_charged() -> None:
    keep = MemoryKeep()
    book, signer = PrivacyBook(keep, (1.2, 1e-5)), Signer(keep)
    book.sign(signer, roster(), "c", MU)  # type: ignore[arg-type]
    with pytest.raises(NotApproved, match=r"\[PRIVACY_SPENT\]"):
        book.sign(signer, roster(1), "c", MU)  # type: ignore[arg-type]
    assert len(book.spent().charges) == 1
    assert len(signer.charged) == 2
    # Another partner has a budget of its own.
    book.sign(signer, roster(partner="tax"), "c", MU)  # type: ignore[arg-type]


def test_an_exact_release_is_signed_and_not_charged() -> None:
    keep = MemoryKeep()
    PrivacyBook(keep).sign(Signer(keep), roster(), "c", None)  # type: ignore[arg-type]
    assert PrivacyBook(keep).spent().charges == ()
