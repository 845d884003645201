"""What one merge costs by itself, without network and clients: after one of many peers changed.

    python -m benchmarks.merge_cost --peers 50 --apps 100

Prints one JSON object: `read_ms` to read the change of that peer, `merge_ms` to merge all. CPU time, medians of
`--tries`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from medkit_gateway_py.aggregation.merge import Merged, MergeOptions, Parts, PeerView, merge
from medkit_gateway_py.aggregation.section_reader import apply_delta, tree_from_wire
from medkit_gateway_py.aggregation.sections import GatewayIdentity, TreeDocument
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.tree import EntityTree

from .fake_fleet import FakeGateway

MAX_ENTITIES = 100_000
SELF = GatewayIdentity("aggregator", "1", "aggregator", "1.0.0")


def measure(peers: int, apps: int, tries: int) -> dict[str, float]:
    """Milliseconds of each step; the change is that of one app of one peer."""
    gateways = [FakeGateway(number, apps) for number in range(peers)]
    documents = [tree_from_wire(one.document(), MAX_ENTITIES) for one in gateways]
    given = GivenIds()
    options = MergeOptions(peers=tuple(one.name for one in gateways))
    before = _merge(documents, given, options, Parts())
    given.add(before.new_ids)
    before = _merge(documents, given, options, Parts())
    taken: dict[str, list[float]] = {"read_ms": [], "merge_ms": []}
    for number in range(tries):
        changed = number % peers
        gateways[changed].toggle()
        delta = json.loads(gateways[changed].delta(gateways[changed].seq - 1).split(b"data: ")[1])
        began = time.process_time()
        read = apply_delta(documents[changed], delta, MAX_ENTITIES)
        taken["read_ms"].append(time.process_time() - began)
        if read is None:
            raise RuntimeError("a change did not follow the tree before it")
        documents[changed] = read
        began = time.process_time()
        after = _merge(documents, given, options, before.parts)
        taken["merge_ms"].append(time.process_time() - began)
        if after.tree == before.tree:
            raise RuntimeError("a change made no difference")
        given.add(after.new_ids)
        before = after
    return {name: statistics.median(seconds) * 1e3 for name, seconds in taken.items()}


def _merge(documents: list[TreeDocument], given: GivenIds, options: MergeOptions, parts: Parts) -> Merged:
    views = [PeerView(one.gateway.id, one.sections) for one in documents]
    return merge(SELF, EntityTree(), 1, views, given, options, parts=parts)


def main() -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, required=True)
    parser.add_argument("--apps", type=int, required=True, help="of each peer")
    parser.add_argument("--tries", type=int, default=20)
    own = parser.parse_args()
    print(json.dumps(measure(own.peers, own.apps, own.tries)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
