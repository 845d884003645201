"""What the graph says about one topic, and the QoS to read it with (DECISIONS 6). Called in the ros thread only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from . import messages


@dataclass(frozen=True)
class TopicFacts:
    """A topic's endpoints, summed up. `type` is "" when nobody uses the topic."""

    type: str
    publisher_count: int
    subscriber_count: int
    reliable: bool
    transient_local: bool
    importable: bool  # whether `type` is installed here

    @property
    def qos(self) -> QoSProfile:
        """For a subscription that matches every publisher: depth 1, deadline and liveliness not requested."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.transient_local else DurabilityPolicy.VOLATILE,
        )

    def wants_other_subscription_than(self, other: TopicFacts) -> bool:
        """Whether a subscription made for `other` would miss messages now."""
        return self._subscription_key != other._subscription_key

    @property
    def _subscription_key(self) -> tuple[str, bool, bool]:
        return self.type, self.reliable, self.transient_local


def inspect(node: Any, topic: str, own_subscriptions: int = 0) -> TopicFacts:
    """Ask the graph about `topic`; `own_subscriptions` of this node's are not counted as subscribers.

    On a topic with several types the publishers decide: the first of their types, by name, that is installed.
    Publishers of another type can never be received by the same subscription, so their QoS does not count.

    :raises ValueError: not a valid topic name.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    subscribers = node.get_subscriptions_info_by_topic(topic)
    chosen, importable = choose_type([info.topic_type for info in publishers])
    if not chosen:
        chosen, importable = choose_type([info.topic_type for info in subscribers])
    profiles = [info.qos_profile for info in publishers if info.topic_type == chosen]
    return TopicFacts(
        type=chosen,
        publisher_count=len(publishers),
        subscriber_count=max(0, len(subscribers) - own_subscriptions),
        reliable=bool(profiles) and all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
        transient_local=bool(profiles) and all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
        importable=importable,
    )


def choose_type(types: Sequence[str]) -> tuple[str, bool]:
    """The first type by name that is installed here, and True; else the first, and False; `("", False)` of none."""
    ordered = sorted(set(types))
    for name in ordered:
        try:
            messages.load(name)
        except messages.UnknownType:
            continue
        return name, True
    return (ordered[0], False) if ordered else ("", False)
