"""Ids of our own nodes are given while no merge gives the same ids to a peer's."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from medkit_gateway_py.entities.ids import GivenId
from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.entities.tree import EntityTree
from support.fake_peer import TestGateway, given_ids, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


async def test_an_id_that_a_merge_is_giving_is_seen_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        committing, go_on, remember = threading.Event(), threading.Event(), a.state.remember

        def slowly(new: Any, now: float) -> None:
            committing.set()
            assert go_on.wait(5)
            remember(new, now)

        monkeypatch.setattr(a.state, "remember", slowly)
        async with running(a):
            await async_eventually(committing.is_set)
            taken: list[bool] = []

            def build() -> tuple[EntityTree, list[GivenId]]:
                taken.append(bool(a.federation.given.holders(Kind.APP, "cam")))
                tree = tree_of(["cam2"])
                return tree, given_ids(a.identity.id, tree)

            update = asyncio.create_task(a.federation.update_local(build))
            await asyncio.sleep(0)
            go_on.set()
            await update
            assert taken == [True]
            assert set(a.federation.tree.apps) == {"cam", "cam2"}
