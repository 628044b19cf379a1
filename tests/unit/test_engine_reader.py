"""The reader lets one long request through at a time."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

from ledger.engine.gateway import Reader


class SlowEngine:
    def __init__(self) -> None:
        self.running = self.most = 0

    async def rpc(self, body: str) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        return json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": "0x"})


def most_at_once(method: str, params: list[object]) -> int:
    async def run() -> int:
        engine = SlowEngine()
        reader = Reader(SimpleNamespace(engine=engine, head=SimpleNamespace(number=5)))  # type: ignore[arg-type]
        batch = [{"jsonrpc": "2.0", "id": number, "method": method, "params": params} for number in range(5)]
        answers = json.loads(await reader.answer(json.dumps(batch).encode()))
        assert [answer["id"] for answer in answers] == [0, 1, 2, 3, 4]
        return engine.most

    return asyncio.run(run())


def test_long_requests_wait_for_one_another() -> None:
    assert most_at_once("eth_getProof", ["0x" + "11" * 20, []]) == 1
    assert most_at_once("eth_getLogs", [{}]) == 1


def test_short_requests_do_not() -> None:
    assert most_at_once("eth_getCode", ["0x" + "11" * 20]) == 5
