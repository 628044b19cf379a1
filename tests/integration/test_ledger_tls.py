"""Services between institutions: mutual TLS and the pair's token, and tags over both."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from test_engine_tls import authority

from ledger.engine.operating import Trust
from ledger.keyring import Keyring
from ledger.service.config import ServiceConfig, load
from ledger.service.peers import Peers
from ledger.tags import KeeperKeys, SingleKey
from node.keystore import write_private
from protocol.errors import ConfigurationError, LedgerError, Unavailable

pytestmark = pytest.mark.integration
POINTS = 3


class Place:
    """A keeper's service behind mutual TLS; its chain is not there, which tags don't need."""

    def __init__(self, home: Path) -> None:
        self.home, self.tls = home, authority(home / "tls")
        self.token = secrets.token_urlsafe(32)
        consortium, seed = secrets.token_bytes(32), secrets.token_bytes(32)
        self.keeper = KeeperKeys(seed, consortium, (1,))
        Keyring.create(home / "keys")
        write_private(home / "seed", seed.hex().encode())
        write_private(home / "operator.token", secrets.token_urlsafe(32).encode())
        write_private(home / "bank-b.token", self.token.encode())
        (home / "certificates.json").write_text('{"certificates": []}')
        (home / "service.toml").write_text(
            f"""
[institution]
name = "bank-a"
roles = ["bank"]
[chain]
kind = "validators"
node = "http://127.0.0.1:1"
chain_id = 77
consortium = "{consortium.hex()}"
contract = "{"07" * 20}"
[listen]
certificate = "tls/bank-a.pem"
key = "tls/bank-a.key"
clients = "tls/ca.pem"
[tags]
keeper = "bank-a"
seed_file = "seed"
daily_points = {POINTS}
public_keys = {{ "1" = "{self.keeper.public[1].hex()}" }}
[peers.bank-b]
url = "https://127.0.0.1:1"
token_file = "bank-b.token"
"""
        )
        command = [sys.executable, "-P", "-m", "ledger.service", "run", str(home / "service.toml")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def trust(self, name: str) -> Trust:
        return Trust(self.tls / "ca.pem", self.tls / f"{name}.pem", self.tls / f"{name}.key")

    def peers(self, client: httpx.Client, token: str = "") -> Peers:
        """Bank B's way to this service."""
        file = self.home / f"{secrets.token_hex(4)}.token"
        write_private(file, (token or self.token).encode())
        content = {
            "institution": {"name": "bank-b", "roles": ["bank"]},
            "chain": {},
            "tags": {"keeper": "bank-a"},
            "peers": {"bank-a": {"url": self.url, "token_file": str(file)}},
        }
        return Peers(ServiceConfig.model_validate(content), client)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.process.terminate()
    made.process.communicate(timeout=30)


def test_tags_over_mutual_tls_with_a_token_and_a_quota(place: Place) -> None:
    assert place.url.startswith("https://")
    with place.trust("bank-b").blocking_client() as client:
        tags = SingleKey(place.keeper.public, place.peers(client).keeper("bank-a"))
        local = SingleKey(place.keeper.public, place.keeper.evaluate)
        inputs = [b"one", b"two"]
        assert tags.tags(inputs) == local.tags(inputs)
        with pytest.raises(LedgerError, match=r"\[TAG_QUOTA\]"):
            tags.tags(inputs)
        with pytest.raises(LedgerError, match=r"\[PEER_UNKNOWN\]"):
            place.peers(client, secrets.token_urlsafe(32)).keeper("bank-a")(1, bytes(32))
        health = client.get(f"{place.url}/v1/health")
        assert (health.status_code, health.json()["status"]) == (503, "unknown")
    # Without a certificate of the consortium, or trusting another authority, nobody gets in.
    bare = ssl.create_default_context(cafile=str(place.tls / "ca.pem"))
    with httpx.Client(verify=bare, trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(f"{place.url}/v1/health")
    with Trust().blocking_client() as client, pytest.raises(Unavailable, match=r"\[PEER_SILENT\]"):
        place.peers(client).keeper("bank-a")(1, bytes(32))


def test_beyond_loopback_it_listens_under_mutual_tls_only(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text(
        '[institution]\nname = "bank-a"\nroles = ["bank"]\n[chain]\n[tags]\nkeeper = "x"\n'
        '[listen]\nhost = "0.0.0.0"\n'
    )
    config = load(file)
    from ledger.engine.serving import Listen

    with pytest.raises(ConfigurationError, match=r"\[LISTEN_PLAIN\]"):
        Listen(config.listen.host, config.listen.port)
