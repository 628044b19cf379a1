"""A ledger that anybody brings up begins with its contracts, and its authority's keys lie encrypted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine_processes import Process, needs_engine

from ledger.abi import decode_result, encode_call
from ledger.commitments import key_id
from ledger.engine import ceremony, founding
from ledger.engine.folder import read_genesis
from ledger.keyring import Keyring
from protocol.errors import ConfigurationError

pytestmark = [pytest.mark.integration, needs_engine]


def test_up_begins_with_the_contracts(tmp_path: Path) -> None:
    process = Process("up", "--data", str(tmp_path / "l")).start()
    try:
        genesis = read_genesis(tmp_path / "l")
        assert genesis.registry is not None
        authority = founding.authority(tmp_path / "l/authority")
        ceremony.check_build(genesis, authority.creations)
        call = {"to": "0x" + genesis.registry.address.hex(), "data": "0x" + encode_call("settings", []).hex()}
        settings = decode_result("settings", bytes.fromhex(process.result("eth_call", call)[2:]))
        assert settings[0] == genesis.consortium
        assert settings[1] == key_id(authority.registry.key)
        assert settings[2:6] == (founding.COUNCIL, founding.THRESHOLD, 1, 1)
    finally:
        Process.stop_all()


def test_a_bare_chain_has_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ledger.engine", "new", "--data", str(tmp_path / "l"), "--bare"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(made.stdout)["genesis"]
    assert read_genesis(tmp_path / "l").registry is None
    assert not (tmp_path / "l/authority").exists()


def test_a_keyring_is_encrypted_and_derives_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Keyring.create(tmp_path / "k")
    again = Keyring.load(tmp_path / "k")
    keys = {made.account(purpose, index).key for purpose in ("role/4", "role/1") for index in range(3)}
    assert len(keys) == 6
    assert again.account("role/4", 2).key in keys
    assert again.secret("sealing") == made.secret("sealing") != made.secret("other")
    assert made.secret("sealing").hex() not in (tmp_path / "k/keystore.json").read_text()
    for name in ("keystore.json", "password"):
        assert (tmp_path / "k" / name).stat().st_mode & 0o077 == 0
    assert repr(made) == "Keyring()"
    with pytest.raises(ConfigurationError, match=r"\[LEDGER_KEYS_EXIST\]"):
        Keyring.create(tmp_path / "k")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("another password")
    monkeypatch.setenv("CONCORDAT_LEDGER_PASSWORD_FILE", str(elsewhere))
    with pytest.raises(ConfigurationError, match=r"\[KEYSTORE\]"):
        Keyring.load(tmp_path / "k")
