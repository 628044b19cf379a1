"""A node asks again with the same request, so that an operator may take the time to compare fingerprints."""

from pathlib import Path

from node import enrolment
from node.config import load
from node.keystore import Keystore


def test_asking_again_repeats_the_request_to_the_byte(tmp_path: Path) -> None:
    config = load(enrolment.initialise(tmp_path / "n", "north", "compute", "127.0.0.1:7501"))
    keys = Keystore(config.path("keys"), config.passphrase())
    first = enrolment._request(config, keys, "token")
    assert enrolment._request(config, keys, "token") == first
    assert enrolment._request(config, keys, "another") != first
    config.path(enrolment.REQUEST).write_bytes(b"torn")
    assert enrolment._request(config, keys, "another") != first
