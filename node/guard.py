"""The run-time half of the rule that nothing but the door releases bytes: an audit hook (PEP 578).

After :func:`close`, this process can open connections to the named addresses only, can't send datagrams, can't listen
beyond its own Unix socket and can't start other programs. What tries is refused with an error and reported.

Not protected: code that runs in C without telling the interpreter, such as the PostgreSQL driver, which is one of the
named exceptions (the institution's own database). The hook guards against mistakes and against dependencies that
phone home, not against an attacker who runs code in the process.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

Address = tuple[str, int]

_FORBIDDEN = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "socket.sendto",
    "socket.sendmsg",
    "ftplib.connect",
    "smtplib.connect",
    "http.client.connect",
    "urllib.Request",
}


class EgressForbidden(RuntimeError):
    """Something in this process tried to reach the outside by another way than the door."""


def close(
    allowed: Collection[Address], report: Callable[[str], None], unix_sockets: Collection[str] = ()
) -> None:
    """Install the hook; it can't be removed.

    Args:
        allowed: addresses (host, port) that may be connected to.
        report: called with the name of what was tried, without its data.
        unix_sockets: paths of Unix sockets that may be connected to or listened on.
    """
    addresses, paths = frozenset(allowed), frozenset(unix_sockets)
    reporting = threading.local()

    def refuse(event: str, detail: str) -> None:
        if not getattr(reporting, "busy", False):
            reporting.busy = True
            try:
                report(f"{event} {detail}".strip())
            finally:
                reporting.busy = False
        raise EgressForbidden(f"EGRESS_FORBIDDEN: {event}")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            refuse(event, "")
        elif event in ("socket.connect", "socket.bind"):
            address = arguments[1]
            if isinstance(address, (str, bytes)):
                path = address.decode(errors="replace") if isinstance(address, bytes) else address
                if path not in paths:
                    refuse(event, "a Unix socket")
            elif event == "socket.bind" or tuple(address[:2]) not in addresses:
                refuse(event, f"{address[0]}:{address[1]}")

    sys.addaudithook(hook)
