"""The run-time half of the rule that nothing but the door releases bytes: an audit hook (PEP 578).

After :func:`close`, this process can open connections to the named addresses only, can look up no other name (a name
server hears what it is asked), can't send datagrams, can't listen beyond its own Unix socket and can't start other
programs. What tries is refused with an error and reported.

Not protected: code that runs in C without telling the interpreter, such as the PostgreSQL driver, which is one of the
named exceptions (the institution's own database). The hook guards against mistakes and against dependencies that
phone home, not against an attacker who runs code in the process.
"""

from __future__ import annotations

import _posixsubprocess
import ipaddress
import socket
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


_LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


class EgressForbidden(RuntimeError):
    """Something in this process tried to reach the outside by another way than the door."""


def close(
    allowed: Collection[Address],
    report: Callable[[str], None],
    unix_sockets: Collection[str] = (),
    lookups: Collection[str] = (),
) -> None:
    """Install the hook; it can't be removed.

    Args:
        allowed: addresses (host, port) that may be connected to; a host is a number or a name.
        report: called with the name of what was tried, without its data.
        unix_sockets: paths of Unix sockets that may be connected to or listened on.
        lookups: other names that may be looked up: the hosts of the institution's own database, whose driver asks
            for the address here and connects in C.
    """
    addresses, paths = frozenset(allowed), frozenset(unix_sockets)
    names = {*lookups, *(host for host, _ in addresses)}
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
            elif event == "socket.bind" or not _is_one_of(addresses, address[0], address[1]):
                refuse(event, f"{address[0]}:{address[1]}")
        elif event in _LOOKUPS:
            host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
            text = host.decode(errors="replace") if isinstance(host, bytes) else host
            if text and text not in names and not _is_number(text):
                refuse(event, "another name than the exchange's")

    def refuse_program(*_: Any) -> None:
        refuse("fork_exec", "")

    # multiprocessing starts programs by this function, which tells the audit hook nothing.
    setattr(_posixsubprocess, "fork_exec", refuse_program)  # noqa: B010
    sys.addaudithook(hook)


def _is_one_of(addresses: frozenset[Address], host: str, port: int) -> bool:
    """Return whether an address is one of those, which may be given by name."""
    if (host, port) in addresses:
        return True
    for name, own in addresses:
        if own == port and not _is_number(name):
            try:
                found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            except OSError:
                continue
            if any(info[4][0] == host for info in found):
                return True
    return False


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
