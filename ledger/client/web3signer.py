"""Keys that a signing service keeps (Web3Signer): this process never sees them.

Specification: Web3Signer's eth1 API, ``POST /api/v1/eth1/sign/{public key}`` with ``{"data": "0x…"}``; the service
hashes the data with keccak-256 and returns r ‖ s ‖ v. Both uses fit it: the digest of a statement is the hash of
``0x1901 ‖ domain separator ‖ struct hash`` (EIP-712), that of a transaction the hash of its RLP form (EIP-155). So the
service sees what it signs, and may have rules about it.

Invariants: every signature is checked against the key that it should be of, before it is used.
"""

from __future__ import annotations

import httpx
from coincurve import PublicKey
from eth_utils.crypto import keccak

from ledger.engine import rlp
from protocol.errors import ConfigurationError, ProtocolError, Unavailable


def _sign(url: str, identifier: str, data: bytes, client: httpx.Client) -> tuple[bytes, bytes]:
    """Return (r ‖ s ‖ recovery bit, the signer's address)."""
    try:
        answer = client.post(f"{url}/api/v1/eth1/sign/0x{identifier}", json={"data": "0x" + data.hex()})
    except httpx.HTTPError as error:
        raise Unavailable("SIGNER_SILENT", "The signing service does not answer.") from error
    if answer.status_code == 404:
        raise ConfigurationError(
            "SIGNER_KEY", "The signing service has no such key.", "Compare its keys with the certificates."
        )
    if answer.status_code != 200:
        raise Unavailable("SIGNER_REFUSES", "The signing service does not sign this.", "Look at its log.")
    try:
        signature = bytes.fromhex(answer.text.strip().strip('"').removeprefix("0x"))
        if len(signature) != 65:
            raise ValueError
        raw = signature[:64] + bytes([signature[64] % 27])
        public = PublicKey.from_signature_and_message(raw, keccak(data), hasher=None)
    except Exception as error:
        raise ProtocolError("SIGNER_ANSWER", "The signing service gives no signature.") from error
    return raw, keccak(public.format(compressed=False)[1:])[12:]


def _checked(public: bytes) -> bytes:
    if len(public) != 64:
        raise ConfigurationError(
            "SIGNER_PUBLIC_KEY",
            "A key of the signing service is named by its public key of 64 bytes.",
            "Look at keys.sender, and at `public` in the file of certificates.",
        )
    return public


def _other_key() -> ProtocolError:
    return ProtocolError("SIGNER_OTHER_KEY", "The signing service signed with another key.")


class RemoteKey:
    """A party's key in the signing service; signs statements."""

    def __init__(self, url: str, public: bytes, client: httpx.Client) -> None:
        """Name a key.

        Args:
            url: the service.
            public: 64 bytes, the uncompressed public key without its prefix: the service's name of the key.
            client: HTTP client.

        Raises:
            ConfigurationError: ``SIGNER_PUBLIC_KEY``.
        """
        self._url = url.rstrip("/")
        self._public = _checked(public)
        self._key = keccak(public)[12:]
        self._client = client

    @property
    def key(self) -> bytes:
        """The 20-byte address."""
        return self._key

    def sign(self, digest: bytes) -> bytes:
        """Refuse: the service signs what it can read, not a bare digest.

        Raises:
            ConfigurationError: ``SIGNER_DIGEST``.
        """
        raise ConfigurationError("SIGNER_DIGEST", "A signing service signs statements, not bare digests.")

    def sign_preimage(self, preimage: bytes) -> bytes:
        """Return r ‖ s ‖ v over keccak-256 of the bytes.

        Raises:
            Unavailable: ``SIGNER_SILENT``, ``SIGNER_REFUSES``.
            ProtocolError: ``SIGNER_ANSWER``, ``SIGNER_OTHER_KEY``.
            ConfigurationError: ``SIGNER_KEY``.
        """
        raw, address = _sign(self._url, self._public.hex(), preimage, self._client)
        if address != self._key:
            raise _other_key()
        return raw[:64] + bytes([raw[64] + 27])


class RemoteSigner:
    """The key that sends transactions, in the signing service."""

    def __init__(self, url: str, public: bytes, chain_id: int, client: httpx.Client) -> None:
        """Name a key.

        Args:
            url: the service.
            public: 64 bytes, the uncompressed public key without its prefix.
            chain_id: the chain's.
            client: HTTP client.

        Raises:
            ConfigurationError: ``SIGNER_PUBLIC_KEY``.
        """
        self._url = url.rstrip("/")
        self._public = _checked(public)
        self._chain_id = chain_id
        self._client = client

    @property
    def address(self) -> bytes:
        """The sender's address, 20 bytes."""
        return keccak(self._public)[12:]

    def sign(self, nonce: int, to: bytes, data: bytes, gas: int) -> bytes:
        """Return a raw transaction of no value and no fee, signed for one chain (EIP-155).

        Raises:
            Unavailable: ``SIGNER_SILENT``, ``SIGNER_REFUSES``.
            ProtocolError: ``SIGNER_ANSWER``, ``SIGNER_OTHER_KEY``.
        """
        zero = rlp.encode_number(0)
        fields = [
            *[rlp.encode_number(nonce), zero, rlp.encode_number(gas)],
            *[rlp.encode_bytes(to), zero, rlp.encode_bytes(data)],
        ]
        unsigned = rlp.encode_list([*fields, rlp.encode_number(self._chain_id), zero, zero])
        raw, address = _sign(self._url, self._public.hex(), unsigned, self._client)
        if address != self.address:
            raise _other_key()
        v = self._chain_id * 2 + 35 + raw[64]
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big")
        return rlp.encode_list([*fields, *[rlp.encode_number(each) for each in (v, r, s)]])
