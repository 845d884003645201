"""Bulk data, triggers, subscriptions, locks, scripts, updates, lifecycle (API.md §10): described, not served yet."""

from __future__ import annotations

from typing import Any, Literal

from .base import Links, Model, alias


class BulkDataCategoryList(Model):
    """Kinds of files."""

    items: list[str]


class BulkDataDescriptor(Model):
    """A file."""

    id: str
    name: str
    mimetype: str
    size: int
    creation_date: str
    description: str | None = None
    x_medkit: dict[str, Any] | None = alias("x-medkit")


class BulkDataDescriptorList(Model):
    """Files."""

    items: list[BulkDataDescriptor]


class TriggerCreateRequest(Model):
    """What to watch, and for what."""

    resource: str
    trigger_condition: Any
    path: str | None = None
    protocol: str | None = None
    multishot: bool | None = None
    persistent: bool | None = None
    lifetime: int | None = None
    log_settings: dict[str, Any] | None = None


class TriggerUpdateRequest(Model):
    """How long it shall live, in seconds."""

    lifetime: int


class Trigger(Model):
    """A trigger."""

    id: str
    status: Literal["active", "terminated"]
    observed_resource: str
    event_source: str
    protocol: str
    trigger_condition: dict[str, Any]
    multishot: bool
    persistent: bool
    lifetime: int | None = None
    path: str | None = None


class TriggerList(Model):
    """Triggers."""

    items: list[Trigger]


class CyclicSubscriptionCreateRequest(Model):
    """What to send, how often (`fast`, `normal`, `slow`), and for how many seconds."""

    resource: str
    interval: str
    duration: int
    protocol: str | None = None


class CyclicSubscriptionUpdateRequest(Model):
    """What to change."""

    interval: str | None = None
    duration: int | None = None


class CyclicSubscription(Model):
    """A subscription."""

    id: str
    observed_resource: str
    event_source: str
    protocol: str
    interval: Literal["fast", "normal", "slow"]


class CyclicSubscriptionList(Model):
    """Subscriptions."""

    items: list[CyclicSubscription]


class AcquireLockRequest(Model):
    """For how many seconds, and for which collections."""

    lock_expiration: int
    scopes: list[str] | None = None
    break_lock: bool | None = None


class ExtendLockRequest(Model):
    """For how many seconds from now."""

    lock_expiration: int


class Lock(Model):
    """A lock."""

    id: str
    owned: bool
    scopes: list[str] | None = None
    lock_expiration: str


class LockList(Model):
    """Locks."""

    items: list[Lock]


class ScriptMetadata(Model):
    """A script."""

    id: str
    name: str
    description: str | None = None
    href: str | None = None
    managed: bool | None = None
    proximity_proof_required: bool | None = None
    parameters_schema: dict[str, Any] | None = None


class ScriptList(Model):
    """Scripts."""

    items: list[ScriptMetadata]
    links: Links | None = alias("_links")


class ScriptUploadResponse(Model):
    """The id of what was uploaded."""

    id: str
    name: str


class ScriptStartRequest(Model):
    """How to run it."""

    execution_type: str
    parameters: Any = None
    proximity_response: str | None = None


class ScriptControlRequest(Model):
    """How to end it."""

    action: str


class ScriptExecution(Model):
    """A run of a script."""

    id: str
    status: str
    progress: int | None = None
    started_at: str | None = None
    completed_at: str | None = None
    parameters: Any = None
    error: dict[str, Any] | None = None


class UpdateList(Model):
    """Ids of updates."""

    items: list[str]


class UpdateRegisterRequest(Model):
    """An update, as its backend describes it."""

    id: str


class UpdateRegisterResponse(Model):
    """The id of the update."""

    id: str


class UpdateDetail(Model):
    """What was registered."""


class XMedkitUpdate(Model):
    """The phase of an update."""

    phase: Literal["none", "preparing", "prepared", "executing", "executed", "failed", "deleting"]


class UpdateStatus(Model):
    """How far an update is."""

    status: Literal["pending", "inProgress", "completed", "failed"]
    progress: int | None = None
    sub_progress: list[dict[str, Any]] | None = None
    error: str | None = None
    x_medkit: XMedkitUpdate | None = alias("x-medkit")


class LifecycleStatusResponse(Model):
    """Whether an entity is ready, and what can be asked of it."""

    status: Literal["ready", "notReady"]
    start: str | None = None
    restart: str | None = None
    force_restart: str | None = alias("force-restart")
    shutdown: str | None = None
    force_shutdown: str | None = alias("force-shutdown")


class FaultTriggerCreateRequest(Model):
    """When to raise which fault."""

    data_name: str
    operator: str
    threshold: float
    fault_code: str
    severity: str
    active: bool | None = None


class FaultTrigger(FaultTriggerCreateRequest):
    """A rule."""

    id: str


class FaultTriggerList(Model):
    """Rules."""

    items: list[FaultTrigger]
