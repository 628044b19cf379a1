"""Who may use the page: a session begun with the operator's token, and proof that a form is the page's own.

Invariants:
    - A session's id is 32 random bytes in a cookie that scripts can't read and other sites don't send (HttpOnly,
      SameSite=Strict, Secure under TLS). It ends after eight hours, after thirty idle minutes, and with the process.
    - Each form carries its session's own token; besides, a browser must say that the request comes from this site
      (Sec-Fetch-Site, Origin). Either alone would do; both fail closed.
    - After ten wrong tokens within a minute, logging in waits for that minute to pass.

The page's cookie opens no route of the API, and the API's bearer token no page.

Not protected: whoever can read the operator's token file or use the operator's browser is the operator.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from protocol.errors import NotApproved

COOKIE = "concordat_desk"
LIFETIME, IDLE = 8 * 3_600, 30 * 60
"""Seconds."""

FAILURES, WINDOW = 10, 60


@dataclass
class Session:
    """One operator's session."""

    csrf: str
    begun: float
    seen: float


class Sessions:
    """The sessions of one process."""

    def __init__(self, digest: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the SHA-256 of the operator's token."""
        self._digest = digest
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._failures: deque[float] = deque(maxlen=FAILURES)

    def begin(self, token: str) -> str:
        """Return a new session's cookie for the operator's token.

        Raises:
            NotApproved: ``LOGIN_WRONG``, ``LOGIN_WAIT``.
        """
        now = self._clock()
        if len(self._failures) == FAILURES and now - self._failures[0] < WINDOW:
            raise NotApproved("LOGIN_WAIT", "Too many wrong tokens.", "Wait a minute.")
        given = hashlib.sha256(token.strip().encode()).digest()
        if not hmac.compare_digest(given, self._digest):
            self._failures.append(now)
            raise NotApproved("LOGIN_WRONG", "This is not the operator's token.")
        self._failures.clear()
        cookie = secrets.token_urlsafe(32)
        self._sessions = {key: one for key, one in self._sessions.items() if self._lives(one)}
        self._sessions[_name(cookie)] = Session(secrets.token_urlsafe(32), now, now)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """Return a living session, and note that it was used."""
        found = self._sessions.get(_name(cookie)) if cookie else None
        if found is None or not self._lives(found):
            return None
        found.seen = self._clock()
        return found

    def end(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(_name(cookie), None)

    def _lives(self, session: Session) -> bool:
        now = self._clock()
        return now - session.begun < LIFETIME and now - session.seen < IDLE


def _name(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site made.

    Raises:
        NotApproved: ``CROSS_SITE``.
    """
    problem = NotApproved("CROSS_SITE", "The request comes from another site.", "Open the page itself.")
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        raise problem
    if site is not None and site != "same-origin":
        raise problem
    if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
        raise problem


def check_form(session: Session, given: str) -> None:
    """Refuse a form without its session's token.

    Raises:
        NotApproved: ``FORM_STALE``.
    """
    if not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise NotApproved("FORM_STALE", "The form is not of this session.", "Load the page again.")
