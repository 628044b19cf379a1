"""The genesis document, acknowledgements, the RPC table, and where a gateway may listen."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import coincurve
import pytest
from eth_account import Account

from ledger.engine import genesis, packages, rpc
from ledger.engine.acknowledgement import Acknowledgement, verify
from ledger.engine.genesis import Contract
from ledger.engine.keys import LedgerKeys
from ledger.engine.serving import Listen
from protocol import document
from protocol.errors import ConcordatError, ConfigurationError, LedgerError, ProtocolError, SignatureInvalid
from protocol.keys import IdentityKey

KEYS = {name: LedgerKeys.generate() for name in ("operator", "bank-a", "bank-b")}


def body() -> dict[str, Any]:
    members = [KEYS[name].member(name) for name in ("bank-a", "bank-b")]
    chain_id = genesis.new_chain_id()
    raws, addresses = genesis.deploy(chain_id, [("registry", b"\x60\x00"), ("council", b"\x60\x01")])
    contracts = [Contract(name, address, b"\1" * 32) for name, address in addresses.items()]
    return genesis.draft(
        KEYS["operator"].member("operator"),
        members,
        1_700_000_000,
        chain_id=chain_id,
        deployments=raws,
        contracts=contracts,
    )


def signed(content: dict[str, Any], *signers: str) -> dict[str, Any]:
    names = signers or tuple(KEYS)
    made = document.sign(genesis.KIND, content, names[0], KEYS[names[0]].identity)
    for name in names[1:]:
        made = document.add_signature(made, name, KEYS[name].identity)
    return made


def test_a_genesis_document_needs_everybody() -> None:
    content = body()
    found = genesis.check(signed(content))
    assert [each.name for each in found.members] == ["bank-a", "bank-b"]
    assert found.registry is not None
    assert found.origin == f"concordat/ledger/{content['consortium']}"
    assert len(found.deployments) == 2
    for missing in KEYS:
        with pytest.raises(SignatureInvalid, match=r"\[DOCUMENT_SIGNER_MISSING\]"):
            genesis.check(signed(content, *(name for name in KEYS if name != missing)))


CHANGES: dict[str, Any] = {
    "chain id too large": lambda each: each.update(chain_id=(1 << 53)),
    "chain id zero": lambda each: each.update(chain_id=0),
    "short consortium": lambda each: each.update(consortium="00" * 31),
    "unknown engine": lambda each: each.update(engine="geth"),
    "unknown rule set": lambda each: each.update(hardfork="london"),
    "no member": lambda each: each.update(members=[]),
    "name twice": lambda each: each["members"].append(each["members"][0]),
    "missing field": lambda each: each.pop("contracts"),
    "contract twice": lambda each: each["contracts"].append(each["contracts"][0]),
    "short address": lambda each: each["contracts"][0].update(address="00"),
    "checkpoint key is an identity key": lambda each: each["members"][0].update(
        checkpoint=each["members"][1]["identity"]
    ),
    "deployment for another chain": lambda each: each.update(chain_id=each["chain_id"] ^ 1),
    "no tolerance": lambda each: each.update(clock_tolerance=0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_genesis_document_that_breaks_a_rule_is_refused(name: str) -> None:
    content = copy.deepcopy(body())
    CHANGES[name](content)
    with pytest.raises(ConcordatError) as caught:
        genesis.check(signed(content) if len(content.get("members", [])) == 2 else {"body": content})
    assert caught.value.code in {"GENESIS_MALFORMED", "TX_CHAIN", "CANONICAL_VALUE"}


def test_a_changed_genesis_document_is_refused() -> None:
    made = signed(body())
    made["body"]["genesis_time"] += 1
    with pytest.raises(SignatureInvalid):
        genesis.check(made)


def test_deployed_addresses_are_those_of_eth_account() -> None:
    raws, addresses = genesis.deploy(77, [("a", b"\x60\x00"), ("b", b"\x60\x00")])
    sender = Account.recover_transaction("0x" + raws[0].hex())
    for nonce, address in enumerate(addresses.values()):
        assert genesis.address_of(bytes.fromhex(sender[2:]), nonce) == address


def test_legacy_signing_is_that_of_eth_account() -> None:
    key = coincurve.PrivateKey(b"\5" * 32)
    ours = genesis.sign_legacy(key, 12345, 9, b"\1" * 20, b"data", 50_000)
    fields = {"chainId": 12345, "nonce": 9, "to": "0x" + "01" * 20, "value": 0, "gas": 50_000, "gasPrice": 0}
    theirs = Account.from_key(b"\5" * 32).sign_transaction({**fields, "data": b"data"})
    assert ours == bytes(theirs.raw_transaction)


ACK = Acknowledgement("ab" * 32, 77, b"\1" * 32, 5, 3, b"\2" * 32, 1000)


def test_an_acknowledgement_round_trips() -> None:
    key = IdentityKey.generate()
    assert verify(ACK.sign(key), key.public) == ACK


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("consortium", "ac" * 32), ("chainId", 78), ("transactionHash", "0x" + "03" * 32), ("logIndex", 6)],
        *[("position", 2), ("blockHash", "0x" + "03" * 32), ("blockTime", 1001), ("signature", "00" * 64)],
    ],
)
def test_a_changed_acknowledgement_is_refused(field: str, value: Any) -> None:
    key = IdentityKey.generate()
    with pytest.raises(SignatureInvalid):
        verify({**ACK.sign(key), field: value}, key.public)
    with pytest.raises(SignatureInvalid):
        verify(ACK.sign(key), IdentityKey.generate().public)
    with pytest.raises(ProtocolError):
        verify({name: each for name, each in ACK.sign(key).items() if name != field}, key.public)


def call(method: str, *params: Any) -> rpc.Call:
    return rpc.admit({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}, 100_000)


FORBIDDEN = [
    *["anvil_setCode", "anvil_setBalance", "evm_mine", "evm_revert", "evm_snapshot", "evm_increaseTime"],
    *[
        "hardhat_setStorageAt",
        "hardhat_impersonateAccount",
        "hardhat_reset",
        "eth_sendTransaction",
        "eth_sign",
    ],
    *["eth_signTypedData_v4", "personal_sign", "debug_traceTransaction", "debug_setHead", "admin_addPeer"],
    *["txpool_content", "miner_start", "eth_newFilter", "eth_subscribe", "eth_feeHistory", "", "eth_call "],
]


@pytest.mark.parametrize("method", FORBIDDEN)
def test_methods_outside_the_table_are_refused(method: str) -> None:
    with pytest.raises(LedgerError, match=r"\[RPC_NOT_ALLOWED\]"):
        call(method)


def test_a_state_override_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"\[RPC_PARAMS\]"):
        call("eth_call", {}, "latest", {"0x" + "11" * 20: {"balance": "0x1"}})


@pytest.mark.parametrize("tag", ["pending", "safe", "finalized"])
def test_pending_means_latest(tag: str) -> None:
    assert call("eth_getTransactionCount", "0x", tag).params == ["0x", "latest"]
    assert call("eth_getTransactionCount", "0x").params == ["0x", "latest"]
    assert call("eth_getBlockByNumber", tag, False).params == ["latest", False]


def test_log_queries_are_bounded() -> None:
    with pytest.raises(LedgerError, match=r"\[RPC_RANGE\]"):
        call("eth_getLogs", {"fromBlock": "earliest"})
    found = call("eth_getLogs", {"fromBlock": hex(95_000), "toBlock": "pending"}).params[0]
    assert found == {"fromBlock": hex(95_000), "toBlock": hex(100_000)}
    assert call("eth_getLogs", {"blockHash": "0x"}).params == [{"blockHash": "0x"}]
    for bad in ({"fromBlock": "-0x5"}, {"fromBlock": 5}, {"toBlock": "tomorrow"}, []):
        with pytest.raises(ProtocolError, match=r"\[RPC_PARAMS\]"):
            call("eth_getLogs", bad)


def test_simulated_calls_are_bounded() -> None:
    call("eth_call", {"gas": hex(1 << 24)})
    with pytest.raises(LedgerError, match=r"\[RPC_RANGE\]"):
        call("eth_call", {"gas": hex((1 << 24) + 1)})
    for bad in ("0x", {"gas": "much"}, {"gas": 5}, None):
        with pytest.raises(ProtocolError, match=r"\[RPC_PARAMS\]"):
            call("eth_estimateGas", bad)


def test_proofs_are_bounded() -> None:
    assert call("eth_getProof", "0x", ["0x1f"] * 64).params[1][63] == "0x" + "00" * 31 + "1f"
    for bad in ("0x0", ["zz"], ["-0x1"], ["0x" + "11" * 33], [5]):
        with pytest.raises(ProtocolError, match=r"\[RPC_PARAMS\]"):
            call("eth_getProof", "0x", bad)
    with pytest.raises(LedgerError, match=r"\[RPC_RANGE\]"):
        call("eth_getProof", "0x", ["0x0"] * 65)


@pytest.mark.parametrize(
    "request_", [None, [], "eth_call", {"method": 1}, {"method": "eth_call", "params": {}}]
)
def test_malformed_requests_are_refused(request_: Any) -> None:
    with pytest.raises(ProtocolError):
        rpc.admit(request_, 1)


def test_bodies_are_bounded() -> None:
    assert rpc.decode(b"[{}]") == ([{}], True)
    assert rpc.decode(b"{}") == ([{}], False)
    for body_ in (b"", b"{", b"[]", b"[" + b"1," * 200 + b"1]"):
        with pytest.raises(ProtocolError):
            rpc.decode(body_)


@pytest.mark.parametrize("parameter", [None, 5, "", "0x", "aa", "0xa", "0xgg"])
def test_parameters_that_are_no_bytes_are_refused(parameter: Any) -> None:
    with pytest.raises(ProtocolError, match=r"\[RPC_PARAMS\]"):
        rpc.raw_bytes(parameter)


LOCK = json.loads((packages.HERE / "package-lock.json").read_text())["packages"]
EDR = "node_modules/@nomicfoundation/edr"


@pytest.mark.parametrize(
    "installed",
    [
        {EDR: {**LOCK[EDR], "integrity": "sha512-AAAA"}},
        {EDR: {"version": LOCK[EDR]["version"]}},
        {"node_modules/other": {"integrity": LOCK[EDR]["integrity"]}},
    ],
    ids=["another digest", "no digest", "not in the lock"],
)
def test_packages_that_the_lock_does_not_name_are_refused(tmp_path: Path, installed: Any) -> None:
    hidden = tmp_path / "node_modules/.package-lock.json"
    hidden.parent.mkdir()
    hidden.write_text(json.dumps({"packages": {EDR: LOCK[EDR]}}))
    packages.check_lock(tmp_path)
    hidden.write_text(json.dumps({"packages": installed}))
    with pytest.raises(ConfigurationError, match=r"\[ENGINE_NOT_IN_LOCK\]"):
        packages.check_lock(tmp_path)


def test_the_lock_names_digests_and_no_registry() -> None:
    for path, entry in LOCK.items():
        assert "resolved" not in entry
        assert not path or entry["integrity"].startswith("sha512-")


def test_without_tls_only_loopback_is_listened_on() -> None:
    assert "127.0.0.1" in Listen().hosts
    for host in ("0.0.0.0", "192.0.2.1", "::"):
        with pytest.raises(ConfigurationError, match=r"\[LISTEN_PLAIN\]"):
            Listen(host)
