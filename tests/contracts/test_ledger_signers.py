"""Signing contracts (EIP-1271), P-256 keys (ERC-7913), and gas that they can't take."""

from __future__ import annotations

import os
from dataclasses import replace

import pyrevm
import pytest
from ledger_document import Document
from ledger_moves import confirmed
from ledger_world import World

from ledger.eip712 import new_nonce
from ledger.mandates import VerifierIntent
from ledger.signers import P256Key, Party, Role, certify

MAGIC = "1626ba7e"


class Wallet:
    """An EIP-1271 contract's address as a key; its signature bytes are whatever a test says."""

    def __init__(self, address: bytes) -> None:
        self.key = address

    def sign(self, _digest: bytes) -> bytes:
        """Return bytes that the wallet doesn't read."""
        return b"anything"


def _wallet(world: World, code: str) -> Wallet:
    """Put a contract of raw code on the chain."""
    address = os.urandom(20)
    world.evm.insert_account_info("0x" + address.hex(), pyrevm.AccountInfo(code=bytes.fromhex(code)))
    return Wallet(address)


def _answers(word: str) -> str:
    """Code that returns one word: PUSH32 word, MSTORE at 0, RETURN 32 bytes."""
    return "7f" + word.ljust(64, "0") + "5f5260205ff3"


def _owned_by(world: World, signer: object) -> Document:
    return Document.new(world, owner=world.party(Role.SUPPLIER, key=signer))


def test_a_signing_contract_signs(world: World) -> None:
    document = _owned_by(world, _wallet(world, _answers(MAGIC)))
    assert document.confirm().ok
    assert document.pledge(world.party(Role.BANK), 1).ok


@pytest.mark.parametrize(
    "code",
    [
        _answers("00000000"),
        _answers("ffffffff"),
        _answers(MAGIC + "01"),  # more than the magic value
        "7f" + MAGIC.ljust(64, "0") + "5f5260045ff3",  # only four bytes
        "5f5ffd",  # reverts
        "5b5f56",  # loops until its gas is gone
        "62ffffff5ff3",  # returns 16 MB
        "7f" + MAGIC.ljust(64, "0") + "5f52" + "60015f55" + "60205ff3",  # writes first
        "00",
    ],
    ids=["zero", "no", "dirty", "short", "revert", "loop", "bomb", "write", "stop"],
)
def test_a_contract_that_does_not_say_so_has_not_signed(world: World, code: str) -> None:
    outcome = _owned_by(world, _wallet(world, code)).confirm()
    assert outcome.refusal.name == "BadSignature"
    assert outcome.gas < 1_500_000


def test_too_little_gas_is_not_a_bad_signature(world: World) -> None:
    document = _owned_by(world, _wallet(world, _answers(MAGIC)))
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    refused = world.submit("confirm", *call, gas=500_000)
    assert refused.refusal.name == "InsufficientGas"
    assert world.submit("confirm", *call).ok


def test_p256_keys_sign_every_part(world: World) -> None:
    verifier = world.at["ERC7913P256Verifier"]
    document = Document.new(
        world,
        owner=world.party(Role.SUPPLIER, key=P256Key.new(verifier)),
        obligor=world.party(Role.OBLIGOR, key=P256Key.new(verifier)),
    )
    assert document.confirm().ok
    bank = world.party(Role.BANK, key=P256Key.new(verifier))
    assert document.pledge(bank, 10).ok
    assert document.release(next(iter(document.liens))).ok


def test_a_p256_signature_of_another_key_or_digest_is_refused(world: World) -> None:
    verifier = world.at["ERC7913P256Verifier"]
    one, two = P256Key.new(verifier), P256Key.new(verifier)
    document = Document.new(world, owner=world.party(Role.SUPPLIER, key=one))
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    good = call[1]
    for signature in (two.sign(world.domain.digest(call[0].struct_hash())), one.sign(os.urandom(32)), b""):
        call[1] = (*good[:6], signature)
        assert world.submit("confirm", *call).refusal.name == "BadSignature"
    r, s = good[6][:32], int.from_bytes(good[6][32:], "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    call[1] = (*good[:6], r + (order - s).to_bytes(32, "big"))  # the upper half
    assert world.submit("confirm", *call).refusal.name == "BadSignature"
    call[1] = good
    assert world.submit("confirm", *call).ok


def test_only_listed_verifiers_are_asked(world: World) -> None:
    anything = _wallet(world, _answers("024ad318")).key
    key = P256Key.new(anything)
    assert _owned_by(world, key).confirm().refusal.name == "VerifierNotAllowed"
    intent = VerifierIntent(anything, True, new_nonce(), world.late())
    assert world.submit("changeVerifier", intent, world.by_council(intent, 4)).ok
    assert _owned_by(world, key).confirm().ok
    intent = VerifierIntent(anything, False, new_nonce(), world.late())
    assert world.submit("changeVerifier", intent, world.by_council(intent, 4)).ok
    assert _owned_by(world, key).confirm().refusal.name == "VerifierNotAllowed"


@pytest.mark.parametrize("length", [0, 1, 19])
def test_keys_shorter_than_an_address_sign_nothing(world: World, length: int) -> None:
    wallet = Wallet(os.urandom(length))
    assert _owned_by(world, wallet).confirm().refusal.name == "BadSignature"


def test_upper_half_signatures_of_an_account_are_refused(world: World) -> None:
    document = Document.new(world)
    draft = document.draft()
    world.pass_time()
    call = document.confirm_call(draft)
    signature = call[1][6]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    flipped = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    call[1] = (*call[1][:6], flipped)
    assert world.submit("confirm", *call).refusal.name == "BadSignature"


def test_a_certificate_covers_every_field(world: World) -> None:
    good = world.party(Role.SUPPLIER)
    c = good.certificate
    for changed in (
        replace(c, custodian=type(c.custodian)(1)),
        replace(c, key_set=os.urandom(32)),
        replace(c, expiry=c.expiry + 1),
    ):
        outcome = Document.new(world, owner=Party(good.signer, changed)).confirm()
        assert outcome.refusal.name == "BadCertificate"
    elsewhere = replace(world.domain, consortium=os.urandom(32))
    foreign = certify(world.registry, elsewhere, Role.SUPPLIER, c.key, c.expiry)
    assert Document.new(world, owner=Party(good.signer, foreign)).confirm().refusal.name == "BadCertificate"
    assert confirmed(world, owner=good).claim
