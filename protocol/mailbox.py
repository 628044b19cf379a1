"""Where messages lie on the exchange: one bucket per ordered pair of parties, one object per message.

Names are digests. The exchange's server shows bucket names to every client that lists streams, and object names
stand in its logs; neither should tell more than its operator sees anyway: who, how much, when.
"""

from __future__ import annotations

import hashlib

from protocol.canonical import lp

COORDINATOR = "coordinator"
"""The name under which the coordinator takes part; no institution can enrol under it."""


def bucket(consortium: str, sender: str, recipient: str) -> str:
    """Name of the bucket in which ``sender`` leaves objects for ``recipient``."""
    return "b" + hashlib.sha256(lp("concordat/v1", "bucket", consortium, sender, recipient)).hexdigest()[:31]


def inbox(party: str) -> str:
    """Prefix of a party's reply subjects; nobody else may listen below it."""
    return f"_INBOX_{party}"


def object_name(job: str, attempt: int, generation: int, step: str, sender: str, recipient: str) -> str:
    """Name of the object that carries one message of a job."""
    label = lp("concordat/v1", "object", job, attempt, generation, step, sender, recipient)
    return hashlib.sha256(label).hexdigest()


def request_name(party: str) -> str:
    """Name of the object in which the coordinator leaves a request for a party without Flower rounds."""
    return object_name("inbox", 0, 0, "request", COORDINATOR, party)


def answer_name(job: str, attempt: int, generation: int, sequence: int, party: str) -> str:
    """Name of the object in which such a party leaves its answer."""
    return object_name(job, attempt, generation, f"answer.{sequence}", party, COORDINATOR)
