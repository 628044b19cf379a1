"""Published vectors through the product's own calls: RFC 8032, 7748, 5869, 9180, the GCM specification.

Where the product binds a domain or both names into the input, the binding is taken out for the test, so that
the vector runs through the very calls the product makes.
"""

from collections.abc import Callable

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import keys, labels, masking, sealing
from protocol.errors import ProtocolError, SignatureInvalid
from protocol.keys import IdentityKey, PublicKey
from protocol.labels import Label
from protocol.masking import MaskKey

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_ed25519_of_rfc_8032(
    secret: str, public: str, message: str, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = IdentityKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))
    assert key.public == PublicKey.from_hex(public)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "signed_bytes", lambda domain, content: content)
        assert key.sign("any", bytes.fromhex(message)).hex() == signature
        key.public.verify("any", bytes.fromhex(message), bytes.fromhex(signature))
    with pytest.raises(SignatureInvalid):  # the product itself accepts no signature without its domain
        key.public.verify("any", bytes.fromhex(message), bytes.fromhex(signature))


class _Info(Label):
    """A label whose info string is given, as the RFC's vectors need it."""

    given = b""

    @property
    def info(self) -> bytes:
        return self.given


def _labelled(info: bytes) -> Label:
    label = _Info("vector", "job")
    object.__setattr__(label, "given", info)
    return label


@pytest.mark.parametrize(
    ("prk", "info", "okm"),
    [
        (
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "".join(f"{byte:02x}" for byte in range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_expand_of_rfc_5869(prk: str, info: str, okm: str) -> None:
    # Expand yields a prefix for a shorter length, so the first 32 bytes of the vectors are comparable.
    assert labels.derive(bytes.fromhex(prk), _labelled(bytes.fromhex(info))).hex() == okm[:64]


def test_aes_256_ctr_of_the_gcm_specification() -> None:
    """Test cases 13 and 14 (McGrew and Viega): under the zero key, E(0) = H, E(1) and E(2) are published."""
    expected = (
        "dc95c078a2408989ad48a21492842087"  # H
        "530f8afbc74536b9a963b4f1c4cb738b"  # tag of test case 13
        "cea7403d4d606b6e074ec5d3baf39d18"  # ciphertext of test case 14
    )
    assert labels.keystream(bytes(32), 48).hex() == expected
    assert labels.words(bytes(32), 1)[0] == int.from_bytes(bytes.fromhex(expected[:16]), "little")


def test_x25519_of_rfc_7748(monkeypatch: pytest.MonkeyPatch) -> None:
    alice = MaskKey.from_bytes(
        bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    )
    bob = MaskKey.from_bytes(
        bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"

    class Bare:
        """In HKDF's place: hands the raw secret through."""

        def __init__(self, **options: object) -> None:
            pass

        derive: Callable[[bytes], bytes] = staticmethod(lambda secret: secret)

    monkeypatch.setattr(masking, "HKDF", Bare)
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.agree("alice", "bob", bob.public, "job").hex() == shared
    assert bob.agree("bob", "alice", alice.public, "job").hex() == shared


RFC_9180_A_2_1 = {
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "secret": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    "public": "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    "plain": "4265617574792069732074727574682c20747275746820626561757479",
    "aad": "436f756e742d30",
    "cipher": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
}


def test_hpke_suite_of_rfc_9180_a_2_1() -> None:
    """The product's suite opens the RFC's ciphertext (whose aad only the library's inner function takes)."""
    vector = {name: bytes.fromhex(value) for name, value in RFC_9180_A_2_1.items()}
    key = sealing.SealingKey.from_bytes(vector["secret"])
    assert key.public == vector["public"]
    opened = openssl.hpke._decrypt_with_aad(
        sealing.SUITE, vector["enc"] + vector["cipher"], key._key, vector["info"], vector["aad"]
    )
    assert opened == vector["plain"]


def test_the_product_opens_only_what_binds_its_own_info() -> None:
    vector = {name: bytes.fromhex(value) for name, value in RFC_9180_A_2_1.items()}
    key = sealing.SealingKey.from_bytes(vector["secret"])
    with pytest.raises(ProtocolError):
        key.open(b"\x01" + vector["enc"] + vector["cipher"], info=vector["info"], aad=vector["aad"])


def test_the_list_of_small_order_keys_is_complete() -> None:
    """Points of edwards25519 times the group's prime order: what remains is the torsion, eight points."""
    p, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    d = -121665 * pow(121666, -1, p) % p

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = a, b
        t = d * x1 * x2 * y1 * y2 % p
        return (
            (x1 * y2 + x2 * y1) * pow(1 + t, -1, p) % p,
            (y1 * y2 + x1 * x2) * pow(1 - t, -1, p) % p,
        )

    def times(n: int, point: tuple[int, int]) -> tuple[int, int]:
        result = (0, 1)
        while n:
            if n & 1:
                result = add(result, point)
            point, n = add(point, point), n >> 1
        return result

    found: set[tuple[int, int]] = set()
    for y in range(2, 60):
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        if x * x % p != square:
            x = x * pow(2, (p - 1) // 4, p) % p
        if x * x % p == square:
            found.add(times(order, (x, y)))
        if len(found) == 8:
            break
    assert len(found) == 8
    spellings = {y for _, y in found} | {y + p for _, y in found if y + p < 2**255}
    assert spellings == set(keys._SMALL_ORDER)
    for y in spellings:
        for sign in (0, 1 << 255):
            with pytest.raises(ProtocolError) as caught:
                PublicKey((y | sign).to_bytes(32, "little"))
            assert caught.value.code == "KEY_WEAK"


def test_why_small_order_keys_are_refused() -> None:
    """Red control: under the neutral element the bare primitive accepts one signature for every message."""
    import hashlib

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    scalar = int.from_bytes(hashlib.sha512(bytes(32)).digest()[:32], "little")
    scalar = (scalar & ((1 << 254) - 8) | (1 << 254)) % (2**252 + 27742317777372353535851937790883648493)
    forged = key.public_key().public_bytes_raw() + scalar.to_bytes(32, "little")
    weak = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    weak.verify(forged, b"one message")
    weak.verify(forged, b"another message")
