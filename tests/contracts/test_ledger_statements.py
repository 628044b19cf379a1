"""Statements in Python are the statements of the contract, and of EIP-712 as others read it."""

from __future__ import annotations

import inspect
import os

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from ledger_world import World

import ledger.intents
import ledger.mandates
from ledger import abi
from ledger.eip712 import Domain, Intent, encode_word, new_nonce
from ledger.intents import DataGrant, PledgeConsent, ReleaseIntent

STATEMENTS = [
    found
    for module in (ledger.intents, ledger.mandates)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, Intent) and found is not Intent
]
ON_CHAIN = [one for one in STATEMENTS if one is not DataGrant]


def _contract_types() -> dict[str, str]:
    """EIP-712 type strings, as the compiled ABI implies them."""
    types = {}
    for entry in abi.ledger_abi():
        for parameter in entry["inputs"] if entry["type"] == "function" else []:
            name = parameter.get("internalType", "").removeprefix("struct ")
            if name.endswith("Intent") or name == "PledgeConsent":
                fields = ",".join(f"{one['type']} {one['name']}" for one in parameter["components"])
                types[name] = f"{name.removesuffix('Intent')}({fields})"
    return types


def test_every_statement_of_the_contract_has_its_python_form() -> None:
    assert {one.__name__: one.TYPE for one in ON_CHAIN} == _contract_types()


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.__name__)
def test_digest_equals_eth_account(statement: type[Intent]) -> None:
    values = [
        {"bytes32": os.urandom(32), "address": os.urandom(20), "bool": True}.get(kind, 7)
        for kind, _ in statement.fields()
    ]
    one = statement(*values)
    domain = Domain(2**53 - 1, os.urandom(20), os.urandom(32))
    message = encode_typed_data(full_message=one.typed_data(domain))
    assert message.header == domain.separator()
    assert message.body == one.struct_hash()
    assert domain.digest(one.struct_hash()) == keccak(b"\x19\x01" + message.header + message.body)


def test_values_that_do_not_fit_are_refused() -> None:
    for kind, value in (("uint24", 1 << 24), ("uint8", -1), ("bytes32", b"short"), ("address", bytes(32))):
        with pytest.raises(ValueError, match=r"fit|length"):
            encode_word(kind, value)


def test_domain_separates_chain_contract_and_consortium() -> None:
    one = ReleaseIntent(os.urandom(32), os.urandom(32), new_nonce(), 1)
    base = Domain(5, bytes(20), bytes(32))
    others = [
        Domain(6, bytes(20), bytes(32)),
        Domain(5, b"\1" * 20, bytes(32)),
        Domain(5, bytes(20), b"\1" * 32),
    ]
    assert len({one.digest(item.struct_hash()) for item in [one] for one in [base, *others]}) == 4


def test_consent_names_holder_loan_custodian_and_time() -> None:
    names = {name for _, name in PledgeConsent.fields()}
    assert {"holder", "maxPpm", "loanRef", "custodian", "notBefore", "notAfter", "contractTag"} <= names


def test_modules_stay_below_the_size_limit() -> None:
    for name in ("Ledger", "AddressBook", *abi.MODULES, *abi.VERIFIERS):
        assert abi.artifact(name)["deployedSize"] < 24_576


def test_modules_share_one_storage_layout() -> None:
    layouts = [
        [(one["label"], one["slot"], one["offset"]) for one in abi.artifact(name)["storage"]]
        for name in ("Ledger", *abi.MODULES)
    ]
    assert all(layout == layouts[0] for layout in layouts)


def test_no_selector_of_a_module_hides_another() -> None:
    selectors: dict[bytes, str] = {}
    for name in ("Ledger", *abi.MODULES):
        for entry in abi.artifact(name)["abi"]:
            if entry["type"] != "function" or (name != "Ledger" and entry["name"] == "claimOf"):
                continue
            selector = keccak(text=abi.signature(entry))[:4]
            assert selector not in selectors, entry["name"]
            selectors[selector] = entry["name"]


def test_every_function_of_a_module_is_reached(world: World) -> None:
    for name in abi.MODULES:
        for entry in abi.artifact(name)["abi"]:
            if entry["type"] == "function":
                selector = keccak(text=abi.signature(entry))[:4]
                outcome = world.raw(world.at["Ledger"], selector)
                assert outcome.data[:4] != keccak(text="UnknownSelector(bytes4)")[:4], entry["name"]


def test_unknown_selector_is_refused(world: World) -> None:
    outcome = world.raw(world.at["Ledger"], b"\1\2\3\4")
    assert outcome.refusal.name == "UnknownSelector"


def test_refusals_decode_without_anybody_s_data() -> None:
    data = keccak(text="OverCapacity(uint24)")[:4] + (70_000).to_bytes(32, "big")
    refusal = abi.decode_refusal(data)
    assert (refusal.name, refusal.arguments, refusal.code) == (
        "OverCapacity",
        {"free": 70_000},
        "LEDGER_OVER_CAPACITY",
    )
    assert "70" not in refusal.error().message
    assert abi.decode_refusal(b"\xff" * 4).name == "Unknown"
