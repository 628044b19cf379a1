"""The SuperNode's loop: a reply is sent when it is there, whatever was in surplus before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import MessageEntry

from node.flower import supernode


def entry(reply_to: str, retrieved: bool = False) -> MessageEntry:
    message: Any = SimpleNamespace(metadata=SimpleNamespace(reply_to_message_id=reply_to, run_id=1))
    return MessageEntry(message=message, is_retrieved=retrieved)


def test_a_reply_is_sent_though_nothing_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    state: Any = NodeStateFactory(ObjectStoreFactory()).state()
    monkeypatch.setattr(start_client_internal, "_pull_and_store_message", lambda *, state: None)
    supernode._send_late_replies()
    pulling = vars(start_client_internal)["_pull_and_store_message"]
    assert pulling(state=state) is None
    state.msg_store |= {"asked": entry(""), "sent already": entry("asked", retrieved=True)}
    assert pulling(state=state) is None
    state.msg_store["waits"] = entry("asked")
    # Anything but None has Flower's loop send what waits.
    assert pulling(state=state) == 0
    assert len(state.get_messages_legacy(is_reply=True)) == 1
    assert pulling(state=state) is None


def test_a_question_that_came_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    state: Any = NodeStateFactory(ObjectStoreFactory()).state()
    monkeypatch.setattr(start_client_internal, "_pull_and_store_message", lambda *, state: 7)
    supernode._send_late_replies()
    assert vars(start_client_internal)["_pull_and_store_message"](state=state) == 7
