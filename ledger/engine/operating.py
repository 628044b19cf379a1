"""The gateway's life: replay, deploy what genesis says, serve, stop at the first fault."""

from __future__ import annotations

import time
from pathlib import Path

from ledger.engine.chain import Chain
from ledger.engine.gateway import Gateway, application
from ledger.engine.genesis import Genesis
from ledger.engine.keys import LedgerKeys
from ledger.engine.port import engine_gone
from ledger.engine.sequencer import Sequencer
from ledger.engine.serving import Listen, serve
from protocol.errors import ConfigurationError


async def run_gateway(data: Path, genesis: Genesis, keys: LedgerKeys, listen: Listen) -> None:
    """Replay the log, then serve until a signal or a fault."""
    if keys.identity.public != genesis.operator.identity:
        raise ConfigurationError(
            "NOT_THE_OPERATOR", "The keys here are not those of the genesis document's operator."
        )
    chain = Chain(genesis, data)
    try:
        started = time.monotonic()
        await chain.open()
        await chain.deploy(int(time.time()))
        sequencer = Sequencer(chain, time.time)
        gateway = Gateway(sequencer, keys.identity)
        ready = {**gateway.health(), "replaySeconds": round(time.monotonic() - started, 3)}
        await serve(application(gateway, listen.hosts), listen, ready, sequencer.run(), _watch(chain))
    finally:
        await chain.close()


async def _watch(chain: Chain) -> None:
    await chain.engine.lost.wait()
    raise engine_gone()
