"""Keys, registry statements, the directory and signed documents: every rule kept and broken."""

import copy
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import document
from protocol.errors import ConcordatError, ConfigurationError, ProtocolError, SignatureInvalid
from protocol.identity import Directory, IdentityKey, Party, PublicKey, Role, check, issue

REGISTRY = IdentityKey.generate()
KEYS = {name: IdentityKey.generate() for name in ("bank-a", "bank-b", "shop", "registry-twin")}
NOW = 1_000


def _flower_key(comment: str = "") -> str:
    raw = ec.generate_private_key(ec.SECP384R1()).public_key()
    line = raw.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return f"{line} {comment}".strip()


FLOWER_A = _flower_key("bank-a@host")
BANK_A = Party("bank-a", Role.BANK, KEYS["bank-a"].public, FLOWER_A, 500, 2_000, 1)
BANK_B = Party("bank-b", Role.BANK, KEYS["bank-b"].public, "", 500, 2_000, 2)
SHOP = Party("shop", Role.ECOMMERCE, KEYS["shop"].public, "", 500, 2_000, 3)


def _refused(code: str, error: type[ConcordatError] = ProtocolError) -> Any:
    return pytest.raises(error, match=rf"\[{code}\]")


class TestKeys:
    def test_signature_verifies_in_its_domain_only(self) -> None:
        key = KEYS["bank-a"]
        signature = key.sign("envelope", b"text")
        key.public.verify("envelope", b"text", signature)
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            key.public.verify("document/party", b"text", signature)
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            key.public.verify("envelope", b"texts", signature)
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            KEYS["bank-b"].public.verify("envelope", b"text", signature)

    def test_domain_and_message_are_not_simply_joined(self) -> None:
        key = KEYS["bank-a"]
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            key.public.verify("ab", b"c", key.sign("a", b"bc"))

    @pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
    def test_malformed_signature_is_invalid(self, signature: bytes) -> None:
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            KEYS["bank-a"].public.verify("d", b"m", signature)

    def test_second_spelling_of_a_signature_is_invalid(self) -> None:
        """RFC 8032 §5.1.7: S must be below the group's order, else a signature has two forms."""
        order = 2**252 + 27742317777372353535851937790883648493
        key = KEYS["bank-a"]
        signature = key.sign("d", b"m")
        s = int.from_bytes(signature[32:], "little") + order
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            key.public.verify("d", b"m", signature[:32] + s.to_bytes(32, "little"))

    @pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), "x" * 32, bytearray(32)])
    def test_public_key_of_another_length_or_type(self, raw: Any) -> None:
        with _refused("KEY_MALFORMED"):
            PublicKey(raw)

    @pytest.mark.parametrize("text", ["", "0" * 63, "G" * 64, "A" * 64, " " * 64, "0x" + "0" * 62, None, 7])
    def test_hexadecimal_has_one_spelling(self, text: Any) -> None:
        with _refused("KEY_MALFORMED"):
            PublicKey.from_hex(text)

    def test_fingerprint_and_hex(self) -> None:
        public = KEYS["bank-a"].public
        assert PublicKey.from_hex(public.hex) == public
        assert public.fingerprint.startswith("SHA256:")
        assert len(public.fingerprint) == 7 + 43
        assert public.fingerprint != KEYS["bank-b"].public.fingerprint

    def test_stored_key_comes_back_with_its_password_only(self) -> None:
        key, password = IdentityKey.generate(), b"a generated secret"
        pem = key.to_pem(password)
        assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert IdentityKey.from_pem(pem, password).public == key.public
        for wrong in (b"another secret", b""):
            with _refused("KEY_UNREADABLE", ConfigurationError):
                IdentityKey.from_pem(pem, wrong)

    @pytest.mark.parametrize("password", [b"", b"short"])
    def test_key_is_never_stored_in_the_clear(self, password: bytes) -> None:
        with _refused("KEY_PASSWORD", ConfigurationError):
            IdentityKey.generate().to_pem(password)

    def test_unencrypted_or_foreign_key_file_is_refused(self) -> None:
        clear = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        other = ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
        for data in (clear, other, b"", b"no key"):
            with _refused("KEY_UNREADABLE", ConfigurationError):
                IdentityKey.from_pem(data, b"password")

    def test_text_forms_show_no_secret(self) -> None:
        key = IdentityKey.generate()
        secret = key._key.private_bytes_raw().hex()
        assert secret not in repr(key) + str(key)


class TestStatements:
    def test_statement_gives_its_party_back(self) -> None:
        assert check(issue(BANK_A, "demo", REGISTRY), "demo", REGISTRY.public, NOW) == BANK_A

    def test_statement_of_another_consortium(self) -> None:
        with _refused("PARTY_CONSORTIUM"):
            check(issue(BANK_A, "demo", REGISTRY), "other", REGISTRY.public, NOW)

    @pytest.mark.parametrize(("now", "holds"), [(499, False), (500, True), (1_999, True), (2_000, False)])
    def test_statement_holds_within_its_span(self, now: int, holds: bool) -> None:
        statement = issue(BANK_A, "demo", REGISTRY)
        if holds:
            check(statement, "demo", REGISTRY.public, now)
        else:
            with _refused("PARTY_EXPIRED", SignatureInvalid):
                check(statement, "demo", REGISTRY.public, now)

    def test_statement_of_another_registry(self) -> None:
        with _refused("DOCUMENT_KEY", SignatureInvalid):
            check(issue(BANK_A, "demo", KEYS["registry-twin"]), "demo", REGISTRY.public, NOW)
        forged = issue(BANK_A, "demo", KEYS["registry-twin"])
        forged["signatures"][0]["key"] = REGISTRY.public.hex
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            check(forged, "demo", REGISTRY.public, NOW)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("role", "government"),
            ("name", "bank-z"),
            ("identity", KEYS["bank-b"].public.hex),
            ("flower_key", ""),
            ("valid_until", 9_999),
            ("serial", 7),
        ],
        # The key is a fresh one in every process; a test's name must not be.
        ids=["role", "name", "identity", "flower_key", "valid_until", "serial"],
    )
    def test_changed_field_breaks_the_signature(self, field: str, value: Any) -> None:
        statement = issue(BANK_A, "demo", REGISTRY)
        statement["body"][field] = value
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            check(statement, "demo", REGISTRY.public, NOW)

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("role", "president", "PARTY_ROLE"),
            ("role", ["bank"], "PARTY_ROLE"),
            ("role", None, "PARTY_ROLE"),
            ("name", "Bank A", "PARTY_NAME"),
            ("name", "bank-a\n", "PARTY_NAME"),
            ("name", "b", "PARTY_NAME"),
            ("name", "x" * 41, "PARTY_NAME"),
            ("name", None, "PARTY_NAME"),
            ("identity", "00" * 32, "KEY_WEAK"),
            ("identity", "00", "KEY_MALFORMED"),
            ("flower_key", "not a key", "PARTY_FLOWER_KEY"),
            ("flower_key", FLOWER_A + "\n" + FLOWER_A, "PARTY_FLOWER_KEY"),
            ("flower_key", None, "PARTY_FLOWER_KEY"),
            ("valid_from", -1, "PARTY_MALFORMED"),
            ("valid_from", True, "PARTY_MALFORMED"),
            ("valid_until", "2000", "PARTY_MALFORMED"),
            ("valid_until", 500, "PARTY_VALIDITY"),
            ("surprise", 1, "PARTY_MALFORMED"),
        ],
    )
    def test_malformed_statement_is_refused_though_signed(self, field: str, value: Any, code: str) -> None:
        body = issue(BANK_A, "demo", REGISTRY)["body"] | {field: value}
        with _refused(code):
            check(document.sign("party", body, "registry", REGISTRY), "demo", REGISTRY.public, NOW)

    def test_missing_field(self) -> None:
        body = issue(BANK_A, "demo", REGISTRY)["body"]
        del body["serial"]
        with _refused("PARTY_MALFORMED"):
            check(document.sign("party", body, "registry", REGISTRY), "demo", REGISTRY.public, NOW)


class TestDirectory:
    @staticmethod
    def _directory(*parties: Party, pins: dict[str, str] | None = None) -> Directory:
        statements = [issue(party, "demo", REGISTRY) for party in parties]
        return Directory.from_statements(statements, "demo", REGISTRY.public, NOW, pins)

    def test_look_up(self) -> None:
        directory = self._directory(BANK_B, BANK_A, SHOP)
        assert directory["shop"] == SHOP
        assert directory.get("nobody") is None
        assert "bank-a" in directory
        assert "nobody" not in directory
        assert len(directory) == 3
        assert directory.with_role(Role.BANK) == (BANK_A, BANK_B)
        assert directory.with_role(Role.AUDITOR) == ()
        assert directory.keys_by_name["bank-b"] == KEYS["bank-b"].public
        with _refused("PARTY_UNKNOWN", SignatureInvalid):
            directory["nobody"]

    def test_flower_key_is_found_without_its_comment(self) -> None:
        directory = self._directory(BANK_A, BANK_B)
        bare = " ".join(FLOWER_A.split()[:2])
        assert directory.by_flower_key(bare) == BANK_A
        assert directory.by_flower_key(f"{bare} other comment\n".encode()) == BANK_A
        for stranger in (_flower_key(), "", bare[:-4]):
            with _refused("PARTY_UNKNOWN", SignatureInvalid):
                directory.by_flower_key(stranger)

    def test_two_statements_for_one_name(self) -> None:
        with _refused("DIRECTORY_NAME_REPEATED"):
            self._directory(BANK_A, replace(BANK_A, identity=KEYS["bank-b"].public, flower_key="", serial=9))

    def test_one_key_for_two_names(self) -> None:
        with _refused("DIRECTORY_KEY_REPEATED"):
            self._directory(BANK_A, replace(BANK_B, identity=BANK_A.identity))

    def test_one_flower_key_for_two_names(self) -> None:
        with _refused("DIRECTORY_KEY_REPEATED"):
            self._directory(BANK_A, replace(BANK_B, flower_key=FLOWER_A + "-again"))

    def test_pins(self) -> None:
        good = {"bank-a": BANK_A.identity.fingerprint, "absent": "SHA256:x"}
        assert self._directory(BANK_A, pins=good)["bank-a"] == BANK_A
        for pin in (BANK_B.identity.fingerprint, "", BANK_A.identity.fingerprint + "="):
            with _refused("DIRECTORY_PIN", SignatureInvalid):
                self._directory(BANK_A, pins={"bank-a": pin})

    def test_one_bad_statement_spoils_all(self) -> None:
        late = issue(replace(BANK_B, valid_until=NOW), "demo", REGISTRY)
        with _refused("PARTY_EXPIRED", SignatureInvalid):
            Directory.from_statements([issue(BANK_A, "demo", REGISTRY), late], "demo", REGISTRY.public, NOW)


class TestDocuments:
    PUBLIC: ClassVar = {name: key.public for name, key in KEYS.items()}

    @staticmethod
    def _signed() -> dict[str, Any]:
        first = document.sign("roster", {"n": 1, "list": ["x", None]}, "bank-a", KEYS["bank-a"])
        return document.add_signature(first, "bank-b", KEYS["bank-b"])

    def test_body_comes_back_when_all_have_signed(self) -> None:
        body = document.verify(self._signed(), "roster", self.PUBLIC, ["bank-a", "bank-b"])
        assert body == {"n": 1, "list": ["x", None]}

    def test_more_signers_than_demanded_are_verified_too(self) -> None:
        signed = self._signed()
        signed["signatures"][1]["signature"] = "0" * 128
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            document.verify(signed, "roster", self.PUBLIC, ["bank-a"])

    def test_missing_signer(self) -> None:
        with _refused("DOCUMENT_SIGNER_MISSING", SignatureInvalid):
            document.verify(self._signed(), "roster", self.PUBLIC, ["bank-a", "bank-b", "shop"])
        bare = self._signed() | {"signatures": []}
        with _refused("DOCUMENT_SIGNER_MISSING", SignatureInvalid):
            document.verify(bare, "roster", self.PUBLIC, ["bank-a"])

    @pytest.mark.parametrize("required", [[], (), "", "bank-a"])
    def test_reader_must_demand_somebody(self, required: Any) -> None:
        with _refused("DOCUMENT_NO_REQUIREMENT"):
            document.verify(self._signed(), "roster", self.PUBLIC, required)

    def test_unknown_signer(self) -> None:
        signed = document.add_signature(self._signed(), "stranger", IdentityKey.generate())
        with _refused("DOCUMENT_SIGNER_UNKNOWN", SignatureInvalid):
            document.verify(signed, "roster", self.PUBLIC, ["bank-a"])

    def test_repeated_signer(self) -> None:
        signed = self._signed()
        with _refused("DOCUMENT_SIGNER_REPEATED"):
            document.add_signature(signed, "bank-b", KEYS["bank-b"])
        signed["signatures"].append(copy.deepcopy(signed["signatures"][0]))
        with _refused("DOCUMENT_SIGNER_REPEATED"):
            document.verify(signed, "roster", self.PUBLIC, ["bank-a"])

    def test_signature_under_another_name(self) -> None:
        signed = self._signed()
        signed["signatures"][0] |= {"signer": "shop", "key": KEYS["shop"].public.hex}
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            document.verify(signed, "roster", self.PUBLIC, ["shop"])

    def test_one_key_under_two_names_signs_for_one(self) -> None:
        signed = self._signed()
        signed["signatures"] = [signed["signatures"][0] | {"signer": "branch"}]
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            document.verify(signed, "roster", {"branch": KEYS["bank-a"].public}, ["branch"])

    def test_other_kind(self) -> None:
        with _refused("DOCUMENT_KIND"):
            document.verify(self._signed(), "manifest", self.PUBLIC, ["bank-a"])
        renamed = self._signed() | {"kind": "manifest"}
        with _refused("SIGNATURE_INVALID", SignatureInvalid):
            document.verify(renamed, "manifest", self.PUBLIC, ["bank-a"])

    @pytest.mark.parametrize(
        "change",
        [
            {"extra": 1},
            {"version": 2},
            {"version": True},
            {"version": "1"},
            {"kind": None},
            {"body": []},
            {"body": None},
            {"signatures": {}},
            {"signatures": ["x"]},
            {"signatures": [{"signer": "bank-a", "key": "", "signature": "", "more": ""}]},
            {"signatures": [{"signer": "bank-a", "key": ""}]},
            {"signatures": [{"signer": 1, "key": "", "signature": ""}]},
        ],
    )
    def test_malformed_document(self, change: dict[str, Any]) -> None:
        with _refused("DOCUMENT_MALFORMED"):
            document.verify(self._signed() | change, "roster", self.PUBLIC, ["bank-a"])

    @pytest.mark.parametrize("text", ["", "00", "Z" * 128, "A" * 128])
    def test_malformed_signature_text(self, text: str) -> None:
        signed = self._signed()
        signed["signatures"][0]["signature"] = text
        with _refused("DOCUMENT_MALFORMED"):
            document.verify(signed, "roster", self.PUBLIC, ["bank-a"])

    def test_missing_field_and_other_types(self) -> None:
        for field in ("kind", "version", "body", "signatures"):
            signed = self._signed()
            del signed[field]
            with _refused("DOCUMENT_MALFORMED"):
                document.verify(signed, "roster", self.PUBLIC, ["bank-a"])
        with _refused("DOCUMENT_MALFORMED"):
            document.verify([], "roster", self.PUBLIC, ["bank-a"])  # type: ignore[arg-type]

    def test_body_is_a_copy(self) -> None:
        signed = self._signed()
        body = document.verify(signed, "roster", self.PUBLIC, ["bank-a"])
        signed["body"]["list"].append("afterwards")
        assert body["list"] == ["x", None]

    def test_body_without_canonical_form_is_not_signed(self) -> None:
        for body in ({"x": float("nan")}, {"x": 2**53}, {"x": b"bytes"}, {"x": "\ud800"}):
            with _refused("CANONICAL_VALUE"):
                document.sign("roster", body, "bank-a", KEYS["bank-a"])
