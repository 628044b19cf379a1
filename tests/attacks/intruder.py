"""What an intruder tries, run as a program of its own in a network namespace of its own.

``python intruder.py TASK`` reads its arguments as JSON on stdin and prints one JSON object. With the consortium's CA
certificate alone, or with the keys of one member, it tries to reach what isn't its own, and tells what became of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

REFUSED = "refused"


def outcome(act: Any) -> str:
    """Return what an attempt gave: ``"done"``, or the kind of error."""
    import httpx

    try:
        act()
    except httpx.HTTPStatusError as error:
        return f"http {error.response.status_code}"
    except (OSError, httpx.HTTPError) as error:
        return type(error).__name__
    return "done"


def ports(host: str, numbers: list[int]) -> dict[str, Any]:
    """Tell which ports answer."""
    found = []
    for number in numbers:
        try:
            socket.create_connection((host, number), timeout=2).close()
        except OSError:
            continue
        found.append(number)
    return {"open": found}


def control(addresses: list[str], authority: str) -> dict[str, Any]:
    """Try Flower's Control API: list, start and stop runs, register a node."""
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest, StartRunRequest, StopRunRequest
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supercore.fab import Fab
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    found = {}
    for address in addresses:
        client = ControlHttpClient.from_server_address(
            address,
            False,
            Path(authority).read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        fab = Fab("0" * 64, b"code", {})
        found[address] = {
            "list": outcome(lambda c=client: c.ListRuns(ListRunsRequest(limit=1))),
            "start": outcome(lambda c=client, f=fab: c.StartRun(StartRunRequest(fab=fab_to_proto(f)))),
            "stop": outcome(lambda c=client: c.StopRun(StopRunRequest(run_id=1))),
            "register": outcome(
                lambda c=client: c.RegisterNode(RegisterNodeRequest(public_key=b"x", name="mallory"))
            ),
        }
        client.close()
    return found


def edge(address: str, authority: str, paths: list[str]) -> dict[str, Any]:
    """Post to paths of the edge as they are, without a node's signature."""
    import httpx

    found: dict[str, Any] = {}
    tls = ssl.create_default_context(cafile=authority)
    with httpx.Client(verify=tls, timeout=20) as client:
        for path in paths:
            url = httpx.URL(f"https://{address}").copy_with(raw_path=path.encode())
            found[path] = client.post(url, content=b"").status_code
    return found


def flood(address: str, authority: str, megabytes: int) -> dict[str, Any]:
    """Send a body without saying how long it will be."""
    import httpx

    sent = 0

    def body() -> Any:
        nonlocal sent
        for _ in range(megabytes):
            sent += 1
            yield bytes(2**20)

    tls = ssl.create_default_context(cafile=authority)
    with httpx.Client(verify=tls, timeout=20) as client:
        try:
            status: Any = client.post(f"https://{address}/v1/fleet/push-object", content=body()).status_code
        except httpx.HTTPError as error:
            status = type(error).__name__
    return {"status": status, "sent": sent}


def fleet(address: str, authority: str) -> dict[str, Any]:
    """Try Flower's Fleet routes with a SuperNode key that nobody registered."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from flwr.proto import fleet_pb2 as pb
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    key = ec.generate_private_key(ec.SECP384R1())
    encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    found = {}
    for name, interceptors in {
        "no key": [version],
        "unregistered": [version, NodeAuthHttpInterceptor(key, key.public_key())],
    }.items():
        with FleetHttpClient.from_server_address(
            address, False, Path(authority).read_bytes(), interceptors=interceptors
        ) as client:
            found[name] = {
                "register": outcome(
                    lambda c=client: c.RegisterNode(pb.RegisterNodeFleetRequest(public_key=encoded))
                ),
                "activate": outcome(
                    lambda c=client: c.ActivateNode(pb.ActivateNodeRequest(public_key=encoded))
                ),
                "pull": outcome(lambda c=client: c.PullMessages(pb.PullMessagesRequest())),
                "push": outcome(lambda c=client: c.PushMessages(pb.PushMessagesRequest())),
            }
    return found


def exchange(address: str, authority: str, certificates: dict[str, str]) -> dict[str, Any]:
    """Try to connect to the exchange: without a certificate, and with each of the given ones."""
    import nats

    def context(certificate: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=authority)
        if certificate:
            made.load_cert_chain(certificate)
        return made

    async def attempt(tls: ssl.SSLContext) -> str:
        async def ignore(_: Exception) -> None:
            return None

        try:
            client = await nats.connect(
                f"tls://{address}", tls=tls, allow_reconnect=False, connect_timeout=4, error_cb=ignore
            )
            await client.flush(timeout=4)
            await client.close()
        except Exception as error:
            return type(error).__name__
        return "connected"

    found = {}
    for name, path in {"nothing": "", **certificates}.items():
        try:
            found[name] = asyncio.run(attempt(context(path)))
        except Exception as error:
            found[name] = type(error).__name__
    return found


def member(
    address: str, authority: str, node: str, consortium: str, other: str, own_object: str, seconds: float
) -> dict[str, Any]:
    """As a member of the exchange, try to read, list, listen to and publish into what is another member's."""
    import nats

    from node.config import load
    from node.keystore import Keystore
    from protocol.mailbox import COORDINATOR, bucket, inbox, object_name

    config = load(Path(node) / "node.toml")
    name = config.node.name
    tls = Keystore(config.path("keys"), config.passphrase()).tls_context(Path(authority))
    into, out = bucket(consortium, COORDINATOR, other), bucket(consortium, other, COORDINATOR)
    third = bucket(consortium, other, "bank-3")
    own = bucket(consortium, COORDINATOR, name)

    async def run() -> dict[str, Any]:
        violations: list[str] = []
        heard: list[str] = []

        async def on_error(error: Exception) -> None:
            violations.append(str(error).lower())

        client = await nats.connect(
            f"tls://{address}",
            tls=tls,
            inbox_prefix=inbox(name).encode(),
            error_cb=on_error,
            connect_timeout=5,
        )

        async def listens(subject: str) -> None:
            async def take(message: Any) -> None:
                heard.append(message.subject)

            await client.subscribe(subject, cb=take)
            await client.flush(timeout=5)

        async def asks(subject: str, body: bytes = b"") -> str:
            try:
                reply = await client.request(subject, body, timeout=3)
            except Exception as error:
                return f"{REFUSED} ({type(error).__name__})"
            return reply.data.decode(errors="replace")[:200] or "empty"

        last = json.dumps({"last_by_subj": f"$O.{into}.M.*"}).encode()
        consumer = {"stream_name": f"OBJ_{into}", "config": {"deliver_subject": f"{inbox(name)}.stolen"}}
        requests = {
            "list streams": ("$JS.API.STREAM.LIST", b"{}"),
            "read its inbox": (f"$JS.API.STREAM.MSG.GET.OBJ_{into}", last),
            "read what it sent": (f"$JS.API.STREAM.MSG.GET.OBJ_{out}", b'{"seq": 1}'),
            "read what it sent a third": (f"$JS.API.STREAM.MSG.GET.OBJ_{third}", b'{"seq": 1}'),
            "read directly": (f"$JS.API.DIRECT.GET.OBJ_{into}.$O.{into}.M.x", b""),
            "count its objects": (f"$JS.API.STREAM.INFO.OBJ_{into}", b'{"subjects_filter": ">"}'),
            "consume its inbox": (
                f"$JS.API.CONSUMER.CREATE.OBJ_{into}",
                json.dumps(consumer).encode(),
            ),
            "empty its inbox": (f"$JS.API.STREAM.PURGE.OBJ_{into}", b"{}"),
            "delete its inbox": (f"$JS.API.STREAM.DELETE.OBJ_{into}", b"{}"),
            "make a stream over everything": (
                "$JS.API.STREAM.CREATE.STOLEN",
                b'{"name": "STOLEN", "subjects": ["$O.>"]}',
            ),
            "the server's own requests": ("$SYS.REQ.SERVER.PING", b""),
            "own inbox": (
                f"$JS.API.STREAM.MSG.GET.OBJ_{own}",
                json.dumps({"last_by_subj": f"$O.{own}.M.{own_object}"}).encode(),
            ),
        }
        answers = {}
        for what, (subject, body) in requests.items():
            before = len(violations)
            answers[what] = {"reply": await asks(subject, body), "violations": len(violations) - before}
        listening = {}
        for subject in (
            ">",
            "$O.>",
            f"$O.{into}.>",
            f"$O.{out}.M.>",
            f"{inbox(other)}.>",
            f"lease.{other}",
            "lease.*",
            "$SYS.>",
            "$JS.>",
            "$JS.EVENT.>",
            f"lease.{name}",
        ):
            before = len(violations)
            await listens(subject)
            await asyncio.sleep(0.1)
            listening[subject] = len(violations) - before
        publishing = {}
        for subject in (
            f"$O.{out}.M.forged",
            f"$O.{out}.C.forged",
            f"$O.{into}.M.forged",
            f"{inbox(other)}.forged",
            f"lease.{other}",
            f"lease.{name}",
            "anything",
            f"$O.{bucket(consortium, name, COORDINATOR)}.M.probe",
        ):
            before = len(violations)
            await client.publish(subject, b"forged")
            await client.flush(timeout=5)
            await asyncio.sleep(0.1)
            publishing[subject] = len(violations) - before
        # JetStream answers to whatever reply subject it is told, without asking for a permission to publish there.
        mine = bucket(consortium, name, COORDINATOR)
        await client.publish(f"$O.{mine}.M.lure", b"planted")
        await client.publish(
            f"$JS.API.STREAM.MSG.GET.OBJ_{mine}",
            json.dumps({"last_by_subj": f"$O.{mine}.M.lure"}).encode(),
            reply=f"$O.{out}.M.planted",
        )
        # Rubbish in the place of what the other told the coordinator; its name can be computed by anybody.
        told = object_name("inbox", 0, 0, "approvals", other, COORDINATOR)
        spoiled = base64.urlsafe_b64encode(told.encode()).decode()
        await client.publish(
            f"$JS.API.DIRECT.GET.OBJ_{mine}.$O.{mine}.M.lure", b"", reply=f"$O.{out}.M.{spoiled}"
        )
        await client.flush(timeout=5)
        await asyncio.sleep(seconds)
        await client.close()
        return {"asked": answers, "listened": listening, "published": publishing, "heard": heard}

    return asyncio.run(run())


def enrol(address: str, authority: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """Post enrolment requests as they are; tells the status and the code of each answer."""
    import httpx

    tls = ssl.create_default_context(cafile=authority)
    answers = []
    with httpx.Client(verify=tls, timeout=20) as client:
        for request in requests:
            reply = client.post(f"https://{address}/enrolments", json=request)
            answers.append([reply.status_code, reply.json().get("title") or reply.json().get("state")])
    return {"answers": answers}


if __name__ == "__main__":
    tasks = {
        "ports": ports,
        "control": control,
        "edge": edge,
        "flood": flood,
        "fleet": fleet,
        "exchange": exchange,
        "member": member,
        "enrol": enrol,
    }
    print(json.dumps(tasks[sys.argv[1]](**json.load(sys.stdin))))
