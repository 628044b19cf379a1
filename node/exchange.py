"""The client of the exchange: objects put for a peer, objects awaited from a peer, over NATS with mutual TLS.

The client lives on a thread of its own with an event loop of its own; everything here is called from ordinary
threads and blocks. A connection that is lost comes back by itself; calls retry until their deadline.

Nothing here decides what may leave a node: only the egress door (``node.door``) calls :meth:`Exchange.put`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta, ObjectMetaOptions
from nats.js.errors import (
    BadObjectMetaError,
    BadRequestError,
    DigestMismatchError,
    LinkIsABucketError,
    NotFoundError,
    ObjectNotFoundError,
)
from nats.js.object_store import ObjectStore

from protocol.errors import Unavailable
from protocol.mailbox import bucket, inbox

T = TypeVar("T")
log = logging.getLogger(__name__)

CALL_SECONDS = 20.0
# What is to be left is tried again: the call that was under way when a server went takes its whole time first.
LEAVE_SECONDS = 90.0
CHUNK = 2**20
# What a job left behind goes by itself; what must stay is left anew by its sender.
OBJECT_SECONDS = 3 * 86400
# The wake-up can be lost with a connection; a look every second and a half bounds what that costs.
LOOK_SECONDS = 1.5


_UNREADABLE = (
    *(BadObjectMetaError, DigestMismatchError, LinkIsABucketError),
    *(ValueError, KeyError, TypeError, AttributeError),
)


class Exchange:
    """A party's connection to the exchange."""

    def __init__(self, url: str, tls: ssl.SSLContext, consortium: str, party: str) -> None:
        self._url, self._tls = url, tls
        self._consortium, self.party = consortium, party
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="exchange", daemon=True)
        self._client: Client | None = None
        self._stores: dict[str, ObjectStore] = {}
        self._arrived = threading.Condition()
        self._arrivals = 0
        self._listening: set[str] = set()

    # -- life ---------------------------------------------------------------------------------------------

    def open(self, peers: Iterable[str], patience: float = 60.0) -> None:
        """Connect, and listen for arrivals from ``peers``.

        Raises:
            Unavailable: the server doesn't answer within ``patience`` seconds, or refuses this party.
        """
        self._thread.start()
        deadline = time.monotonic() + patience
        while True:
            try:
                self._call(self._connect(), CALL_SECONDS)
                break
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        for peer in peers:
            self.listen(peer)

    async def _connect(self) -> None:
        async def on_error(error: Exception) -> None:
            log.warning("exchange: %s", error)

        self._client = await nats.connect(
            self._url,
            tls=self._tls,
            name=self.party,
            inbox_prefix=inbox(self.party).encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,
            allow_reconnect=True,
            error_cb=on_error,
        )

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        if self._client is not None:
            self._call(self._client.close(), CALL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def connected(self) -> bool:
        """Return whether the server answers at this moment."""
        return self._client is not None and self._client.is_connected

    # -- objects ------------------------------------------------------------------------------------------

    def put(self, recipient: str, name: str, data: bytes, patience: float = LEAVE_SECONDS) -> None:
        """Leave an object for a peer; returns once the server has it on disk. A repeat replaces it."""
        options = ObjectMeta(name=name, options=ObjectMetaOptions(max_chunk_size=CHUNK))

        async def act() -> None:
            store = await self._store(self.party, recipient)
            try:
                await store.put(name, data, meta=options)
            except BadObjectMetaError:
                # Another member had the server plant rubbish in this place: it goes, what belongs here comes.
                jetstream, place = self._jetstream(), bucket(self._consortium, self.party, recipient)
                encoded = base64.urlsafe_b64encode(name.encode()).decode()
                await jetstream.purge_stream(f"OBJ_{place}", subject=f"$O.{place}.M.{encoded}")
                await store.put(name, data, meta=options)

        self._persist(act, patience, f"can't leave an object for {recipient}")

    def poll(self, sender: str, name: str) -> bytes | None:
        """Return an object of a peer if it is there."""

        async def act() -> bytes | None:
            store = await self._store(sender, self.party)
            target = io.BytesIO()
            try:
                await store.get_info(name)
                await store.get(name, writeinto=target)
            except (NotFoundError, ObjectNotFoundError):
                return None
            except _UNREADABLE as error:
                # What describes the object is no description. It counts as absent: its sender may leave it anew.
                log.warning("an object of %s can't be read: %s", sender, type(error).__name__)
                return None
            return target.getvalue()

        return self._persist(act, CALL_SECONDS, f"can't read an object of {sender}")

    def wait(self, sender: str, name: str, deadline: float, stop: Callable[[], None] | None = None) -> bytes:
        """Wait for an object of a peer.

        Args:
            sender: the peer.
            name: the object's name (``protocol.mailbox.object_name``).
            deadline: ``time.monotonic()`` at which to give up.
            stop: called now and then; raises to end the wait (a cancelled job, a lost lease).

        Raises:
            Unavailable: the object didn't come in time.
        """
        self.listen(sender)
        while True:
            seen = self._arrivals
            try:
                data = self.poll(sender, name)
            except Unavailable:
                # A call that was under way when the server went is lost; the wait has a deadline of its own.
                data = None
            if data is not None:
                return data
            if stop is not None:
                stop()
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")
            self.await_arrival(seen, min(left, LOOK_SECONDS))

    def listen(self, sender: str) -> None:
        """Be woken when a peer leaves an object."""
        if sender in self._listening:
            return

        async def arrived(_: Any) -> None:
            with self._arrived:
                self._arrivals += 1
                self._arrived.notify_all()

        async def act() -> None:
            assert self._client is not None
            await self._client.subscribe(f"$O.{bucket(self._consortium, sender, self.party)}.M.>", cb=arrived)

        self._call(act(), CALL_SECONDS)
        self._listening.add(sender)

    def subscribe(self, subject: str, take: Callable[[bytes], None]) -> None:
        """Have ``take`` called with every message on a subject; it runs on the exchange's thread and must be quick."""

        async def arrived(message: Any) -> None:
            take(message.data)

        async def act() -> None:
            assert self._client is not None
            await self._client.subscribe(subject, cb=arrived)

        self._call(act(), CALL_SECONDS)

    def announce(self, subject: str, data: bytes) -> None:
        """Publish a message that nobody keeps; lost if its reader is away (the coordinator's leases)."""

        async def act() -> None:
            assert self._client is not None
            await self._client.publish(subject, data)

        self._call(act(), CALL_SECONDS)

    def arrivals(self) -> int:
        """Return a counter that grows with every arrival."""
        return self._arrivals

    def await_arrival(self, seen: int, timeout: float) -> int:
        """Wait until the counter differs from ``seen``, at most ``timeout`` seconds; return it."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._arrivals != seen, timeout=timeout)
            return self._arrivals

    # -- the coordinator's part ---------------------------------------------------------------------------

    def make_bucket(self, sender: str, recipient: str) -> None:
        """Make the bucket of an ordered pair if it isn't there (the coordinator only)."""

        async def act() -> None:
            assert self._client is not None
            name = bucket(self._consortium, sender, recipient)
            jetstream = self._client.jetstream()
            try:
                await jetstream.stream_info(f"OBJ_{name}")
            except NotFoundError:
                try:
                    await jetstream.create_object_store(name, ttl=OBJECT_SECONDS)
                except BadRequestError as error:
                    # Another thread of the coordinator made it between the question and the answer.
                    if error.err_code != 10058:
                        raise

        self._persist(act, CALL_SECONDS, f"can't make the bucket {sender} to {recipient}")

    # -- plumbing -----------------------------------------------------------------------------------------

    async def _store(self, sender: str, recipient: str) -> ObjectStore:
        assert self._client is not None
        name = bucket(self._consortium, sender, recipient)
        if name not in self._stores:
            self._stores[name] = await self._jetstream().object_store(name)
        return self._stores[name]

    def _jetstream(self) -> JetStreamContext:
        assert self._client is not None
        return self._client.jetstream(timeout=CALL_SECONDS)

    def _persist(self, act: Callable[[], Coroutine[Any, Any, T]], patience: float, what: str) -> T:
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._call(act(), CALL_SECONDS)
            except (TimeoutError, Unavailable, NatsError, OSError) as error:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "EXCHANGE_UNAVAILABLE",
                        f"{what}: the exchange doesn't answer ({type(error).__name__})",
                        "It may be down or unreachable; `concordat node doctor` tells which.",
                    ) from None
                time.sleep(0.3)

    def _call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise Unavailable("EXCHANGE_UNAVAILABLE", "the exchange doesn't answer") from None
        except (OSError, ssl.SSLError, nats.errors.NoServersError) as error:
            raise Unavailable(
                "EXCHANGE_UNAVAILABLE", f"the exchange can't be reached: {type(error).__name__}"
            ) from None


def dial(url: str, tls: ssl.SSLContext, name: str, seconds: float) -> None:
    """Connect once and leave again: whether the server answers and takes this certificate.

    Raises:
        Unavailable: it doesn't, within ``seconds``.
    """

    async def quiet(_: Exception) -> None:
        return

    async def act() -> None:
        # The client waits and tries again for minutes if nobody answers; this call doesn't.
        connecting = nats.connect(
            url,
            tls=tls,
            name=name,
            connect_timeout=int(seconds),
            max_reconnect_attempts=0,
            allow_reconnect=False,
            error_cb=quiet,
        )
        client = await asyncio.wait_for(connecting, seconds)
        await client.close()

    try:
        asyncio.run(act())
    except (OSError, ssl.SSLError, NatsError, TimeoutError) as error:
        raise Unavailable(
            "EXCHANGE_UNREACHABLE",
            f"{url.partition('://')[2]}: {type(error).__name__}",
            "Let this machine dial out to that address, and ask whether the exchange runs.",
        ) from None
