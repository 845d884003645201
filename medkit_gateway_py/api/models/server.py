"""Root, health, versions, peers (API.md §2, AGGREGATION.md §6, §10)."""

from __future__ import annotations

from typing import Any

from .base import Model, XMedkitGathered, alias, required


class AuthOverview(Model):
    """How to authenticate."""

    enabled: bool
    algorithm: str
    require_auth_for: str


class TlsOverview(Model):
    """HTTPS."""

    enabled: bool
    min_version: str


class RootOverview(Model):
    """What the gateway offers."""

    name: str
    version: str
    api_base: str
    endpoints: list[str]
    capabilities: dict[str, bool]
    auth: AuthOverview | None = None
    tls: TlsOverview | None = None
    sovd_version: str | None = None
    server_name: str | None = None
    server_version: str | None = None
    supported_features: list[str] | None = None
    entry_points: dict[str, str] | None = None


class DiscoveryStatus(Model):
    """Where local entities come from."""

    mode: str
    strategy: str
    pipeline: dict[str, Any] | None = None
    linking: dict[str, Any] | None = None


class HealthPeer(Model):
    """A peer."""

    name: str
    url: str
    status: str


class HealthWarning(Model):
    """Something that needs a person."""

    code: str
    message: str
    entity_ids: list[str]
    ros_node_fqns: list[str]
    peer_names: list[str]


class XMedkitHealth(Model):
    """Who answers, and how its parts are."""

    instance_id: str
    boot_id: str


class HealthStatus(Model):
    """Whether the gateway works. `timestamp` is nanoseconds since the epoch."""

    status: str
    timestamp: int
    discovery: DiscoveryStatus | None = None
    peers: list[HealthPeer] | None = None
    warning_schema_version: int
    warnings: list[HealthWarning]
    data_provider: dict[str, Any] | None = alias("x-medkit-data-provider")
    subscription_executor: dict[str, Any] | None = alias("x-medkit-subscription-executor")
    entity_cache: dict[str, Any] | None = alias("x-medkit-entity-cache")
    x_medkit: XMedkitHealth | None = alias("x-medkit")


class VendorInfo(Model):
    """The software behind a version of the API."""

    name: str
    version: str
    instance_id: str | None = None
    boot_id: str | None = None


class VersionItem(Model):
    """A version of the API."""

    version: str
    base_uri: str
    vendor_info: VendorInfo | None = None


class VersionInfo(Model):
    """Versions of the API, ours and those of peers."""

    items: list[VersionItem]
    x_medkit: XMedkitGathered | None = alias("x-medkit")


class TreeGateway(Model):
    """The gateway that tells."""

    id: str
    boot_id: str
    name: str
    version: str


class TreeOrigin(Model):
    """The entities that one gateway has in its own graph, and the way they came."""

    id: str
    name: str
    boot_id: str
    seq: int
    path: list[str]
    state: str
    entities: dict[str, list[dict[str, Any]]]


class TreeDocument(Model):
    """The tree as gateways tell it to each other."""

    schema_: int = required("schema")
    gateway: TreeGateway
    seq: int
    origins: list[TreeOrigin]


class AuthCredentials(Model):
    """What a token is asked for with."""

    grant_type: str
    client_id: str | None = None
    client_secret: str | None = None
    refresh_token: str | None = None


class AuthTokenResponse(Model):
    """A token."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | None = None


class AuthRevokeRequest(Model):
    """Which token to revoke."""

    token: str
    token_type_hint: str | None = None


class AuthRevokeResponse(Model):
    """Always `revoked`."""

    status: str
