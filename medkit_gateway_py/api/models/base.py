"""The base of all models, and those that others share. Models describe; answers are not made or checked by them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Unknown members are allowed: newer gateways may say more (API.md §1.2)."""

    model_config = ConfigDict(extra="allow")


class GenericError(Model):
    """Every answer outside 2xx: `error_code` and `message` (API.md §1.3), or where it is about tokens, `error` and
    `error_description` as OAuth2 has them (API.md §9.3)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "anyOf": [{"required": ["error_code", "message"]}, {"required": ["error", "error_description"]}]
        },
    )

    error_code: str | None = None
    message: str | None = None
    vendor_code: str | None = None
    parameters: dict[str, Any] | None = None
    error: str | None = None
    error_description: str | None = None


class XMedkitRos2(Model):
    """ROS facts."""

    node: str | None = None
    namespace: str | None = None
    type: str | None = None
    topic: str | None = None
    service: str | None = None
    action: str | None = None
    kind: str | None = None
    direction: str | None = None


class XMedkitPeerReport(Model):
    """How one peer did in a fan-out (AGGREGATION.md §8)."""

    status: str
    latency_ms: float | None = None
    age_ms: float | None = None
    error: str | None = None


class XMedkitDroppedItem(Model):
    """An item of a peer that could not be used."""

    peer: str
    reason: str
    source_id: str


class XMedkitGathered(Model):
    """What a gathered collection says of those who did not answer."""

    partial: bool | None = None
    failed_peers: list[str] | None = None
    peers: dict[str, XMedkitPeerReport] | None = None
    peer_dropped_items: list[XMedkitDroppedItem] | None = None


class XMedkitCollection(XMedkitGathered):
    """The `x-medkit` of collections."""

    total_count: int | None = None
    contributors: list[str] | None = None


class Capability(Model):
    """A collection that an entity has."""

    name: str
    href: str


class Links(Model):
    """Links of an answer; URIs without scheme and host (API.md §1.12)."""

    self: str
    collection: str | None = None


def alias(name: str) -> Any:
    """An optional member whose name is no Python name."""
    return Field(None, alias=name)


def required(name: str) -> Any:
    """A required member whose name is no Python name."""
    return Field(alias=name)
