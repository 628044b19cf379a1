"""Tags: the same for everybody with the document, nobody else's guess, and pinned to their keeper."""

from __future__ import annotations

import hashlib
import secrets
from datetime import date

import pytest

from ledger.dossier import Dossier
from ledger.invoice import Invoice
from ledger.tags import KeeperKeys, SingleKey, finish, inputs
from protocol import group, voprf
from protocol.canonical import lp
from protocol.errors import ConfigurationError, ProtocolError

INVOICE = Invoice(
    "cn",
    "91350100M000100Y43",
    "91440300708461136T",
    ("24312000000012345678", "24312000000012345679"),
    date(2026, 11, 1),
    date(2027, 2, 28),
    "CNY",
    10_000_000,
)
KEEPER = KeeperKeys(secrets.token_bytes(32), secrets.token_bytes(32), (1, 2))
FUNCTION = SingleKey(KEEPER.public, KEEPER.evaluate)


def test_two_askers_get_the_same_tags_and_the_keeper_sees_other_points_each_time() -> None:
    seen: list[bytes] = []

    def ask(epoch: int, points: bytes) -> bytes:
        seen.append(points)
        return KEEPER.evaluate(epoch, points)

    first, second = (SingleKey(KEEPER.public, ask).tags(inputs(INVOICE)) for _ in range(2))
    assert first == second
    assert [each.epoch for each in first] == [1, 2], "case 51: all live epochs at once, oldest first"
    assert [len(each.tags) for each in first] == [2, 2]
    assert len({tag for each in first for tag in each.tags}) == 4
    assert all(list(each.tags) == sorted(each.tags) for each in first)
    assert len(set(seen)) == 4


def test_the_tag_is_a_hash_of_the_finished_output() -> None:
    data = inputs(INVOICE)[0]
    output = voprf.evaluate(KEEPER.key(1), [data])[0]
    expected = hashlib.sha256(lp("concordat/ledger-tag/v1", 1, "t1", output)).digest()
    assert finish(1, output) == expected
    assert expected in FUNCTION.tags(inputs(INVOICE))[0].tags
    assert finish(2, output) != expected
    assert finish(1, output, "t2") != expected


def test_case_70_a_sum_of_points_opens_no_tag() -> None:
    """Evaluations are linear; the tags of a document can't be tested through another's."""
    one, other = (voprf.hash_inputs([data])[0] for data in inputs(INVOICE))
    key = KEEPER.key(1)
    total = group.multiply(key.secret, group.add(one, other))
    parts = group.add(group.multiply(key.secret, one), group.multiply(key.secret, other))
    assert total == parts, "the red control: raw elements do add up"
    tags = FUNCTION.tags(inputs(INVOICE))[0].tags
    assert bytes(total) not in tags
    assert hashlib.sha256(total).digest() not in tags


def test_case_45_an_answer_under_another_key_is_refused() -> None:
    other = KeeperKeys(secrets.token_bytes(32), KEEPER.consortium, (1, 2))
    with pytest.raises(ProtocolError, match=r"\[VOPRF_PROOF\]"):
        SingleKey(KEEPER.public, other.evaluate).tags(inputs(INVOICE))
    with pytest.raises(ProtocolError, match=r"\[VOPRF_PROOF\]"):
        SingleKey(KEEPER.public, lambda epoch, points: KEEPER.evaluate(3 - epoch, points)).tags(
            inputs(INVOICE)
        )


def test_a_closed_epoch_has_no_key() -> None:
    with pytest.raises(ConfigurationError, match=r"\[TAG_EPOCH\]"):
        KEEPER.evaluate(3, b"\0" * 32)


def test_a_dossier_commits_under_salts_and_reads_back() -> None:
    first, second = Dossier.new(INVOICE, bytes(32)), Dossier.new(INVOICE, bytes(32))
    assert first.terms_hash != second.terms_hash
    assert first.doc_root != second.doc_root
    sets = FUNCTION.tags(inputs(INVOICE))
    owner = secrets.token_bytes(32)
    assert first.draft(owner, sets).claim_id() != second.draft(owner, sets).claim_id()
    again = Dossier.from_json(first.to_json())
    assert (again.terms_hash, again.doc_root) == (first.terms_hash, first.doc_root)
    assert again.draft(owner, sets) == first.draft(owner, sets)
    assert "salt" not in repr(first).replace("field_salts", "").replace("terms_salt", "")


def test_the_due_week_is_rounded_up_over_the_whole_day() -> None:
    dossier = Dossier.new(INVOICE)
    end = dossier.due_week * 604_800
    day = (INVOICE.due - date(1970, 1, 1)).days * 86_400
    assert day + 86_400 <= end < day + 86_400 + 604_800


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(version=2),
        lambda one: one.pop("invoice"),
        lambda one: one.update(draft_salt="00"),
        lambda one: one["field_salts"].pop("amount"),
        lambda one: one["field_salts"].update(other="00" * 32),
        lambda one: one.update(terms_salt=one["draft_salt"]),
        lambda one: one.update(file="00"),
        lambda one: one.update(contract_tag="zz"),
    ],
)
def test_a_malformed_dossier_is_refused(change: object) -> None:
    found = Dossier.new(INVOICE, bytes(32)).to_json()
    change(found)  # type: ignore[operator]
    with pytest.raises(ProtocolError, match=r"\[DOSSIER_MALFORMED\]"):
        Dossier.from_json(found)
