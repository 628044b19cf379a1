"""Operator and three members as processes of their own, over mutual TLS, through kills."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from engine_processes import Process, Sender, counter_code, eventually, free_port, needs_engine
from eth_hash.auto import keccak

from ledger.engine import genesis as genesis_document
from ledger.engine import keys as ledger_keys
from ledger.engine.folder import write_genesis
from ledger.engine.genesis import Contract
from protocol import document
from protocol.checkpoint import Note, require_final

pytestmark = [pytest.mark.integration, needs_engine]
BANKS = ("bank-a", "bank-b", "bank-c")


def authority(folder: Path) -> Path:
    """Write a certificate authority and a certificate for every party, for 127.0.0.1; return the folder."""
    folder.mkdir()
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "consortium")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: x509.Name, key: Any, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
        )
        usage = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True, key_encipherment=False, key_cert_sign=is_ca, crl_sign=is_ca, **usage
            ),
            critical=True,
        )
        if not is_ca:
            names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    (folder / "ca.pem").write_bytes(
        certificate(ca_name, ca_key, True).public_bytes(serialization.Encoding.PEM)
    )
    for party in ("operator", *BANKS):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
        (folder / f"{party}.pem").write_bytes(
            certificate(name, key, False).public_bytes(serialization.Encoding.PEM)
        )
        (folder / f"{party}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return folder


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[tuple[dict[str, Process], bytes, Path]]:
    tls = authority(tmp_path / "tls")
    keys = {name: ledger_keys.create(tmp_path / name / "keys") for name in ("operator", *BANKS)}
    chain_id = genesis_document.new_chain_id()
    creation, runtime = counter_code()
    raws, addresses = genesis_document.deploy(chain_id, [("registry", creation)])
    body = genesis_document.draft(
        keys["operator"].member("operator"),
        [keys[name].member(name) for name in BANKS],
        int(time.time()),
        chain_id=chain_id,
        deployments=raws,
        contracts=[Contract("registry", addresses["registry"], keccak(runtime))],
    )
    signed = document.sign(genesis_document.KIND, body, "operator", keys["operator"].identity)
    for name in BANKS:
        signed = document.add_signature(signed, name, keys[name].identity)
    ports = {name: free_port() for name in ("operator", *BANKS)}
    urls = {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}

    def secured(name: str, authorities: str) -> list[str]:
        pair = ["--certificate", str(tls / f"{name}.pem"), "--key", str(tls / f"{name}.key")]
        return ["--port", str(ports[name]), *pair, authorities, str(tls / "ca.pem")]

    processes: dict[str, Process] = {}
    for name in ("operator", *BANKS):
        write_genesis(tmp_path / name, signed)
        data = ["--data", str(tmp_path / name)]
        if name == "operator":
            processes[name] = Process("up", *data, *secured(name, "--clients"))
        else:
            peers = [
                part for other in BANKS if other != name for part in ("--peer", f"{other}={urls[other]}")
            ]
            member = ["member", *data, "--name", name, "--operator", urls["operator"], *peers]
            processes[name] = Process(*member, *secured(name, "--authorities"))
    context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    context.load_cert_chain(tls / "bank-a.pem", tls / "bank-a.key")
    for process in processes.values():
        process.client.close()
        process.client = httpx.Client(verify=context, trust_env=False, timeout=30)
        process.spawn()
    for process in processes.values():
        process.wait()
    yield processes, addresses["registry"], tls
    Process.stop_all()


def final_size(process: Process) -> int:
    answer = process.client.get(f"{process.url}/final")
    return int(answer.json()["size"]) if answer.status_code == 200 else 0


def test_members_agree_through_kills_over_mutual_tls(
    consortium: tuple[dict[str, Process], bytes, Path],
) -> None:
    processes, address, tls = consortium
    operator = processes["operator"]
    sender = Sender(operator.health()["chainId"])

    def send(count: int) -> int:
        for _ in range(count):
            raw = "0x" + sender.sign(address, (1).to_bytes(32, "big")).hex()
            operator.result("eth_sendRawTransaction", raw)
        return int(operator.health()["records"])

    # Without a client certificate of the consortium nobody gets in.
    anonymous = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    with httpx.Client(verify=anonymous, trust_env=False) as client, pytest.raises(httpx.HTTPError):
        client.get(f"{operator.url}/health")

    size = send(5)
    for name in BANKS:
        eventually(lambda name=name: final_size(processes[name]) >= size)
    processes["bank-b"].kill()
    operator.kill()
    operator.start()
    size = send(5)
    processes["bank-b"].start()
    for name in BANKS:
        eventually(lambda name=name: final_size(processes[name]) >= size)
        health = processes[name].health()
        assert health["status"] == "ok"
        assert health["evidence"] == []
    answer = processes["bank-c"].client.get(f"{processes['bank-c'].url}/final").json()
    signed = json.loads((Path(operator.arguments[2]) / "genesis.json").read_text())
    members = genesis_document.check(signed).member_keys()
    assert set(require_final(Note.decode(answer["note"]), members)) == set(BANKS)
    total = processes["bank-c"].result("eth_call", {"to": "0x" + address.hex()}, "latest")
    assert int(total, 16) == 10
