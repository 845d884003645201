"""Sections whose resources come with later versions: they exist, so that parameter files are checked whole.

Everything here is accepted, checked and, when it is set, reported as having no effect yet (API.md §11).
"""

from __future__ import annotations

from dataclasses import dataclass

from .rules import INT_MAX, group, parameter

LATER = "later"


@dataclass(frozen=True)
class BulkData:
    """Files of entities: recordings, logs."""

    storage_dir: str = parameter("/tmp/ros2_medkit_bulk_data", "Directory of uploaded files.", status=LATER)
    max_upload_size: int = parameter(
        104857600,
        "Longest upload in bytes; 0: no limit.",
        minimum=0,
        maximum=9223372036854775807,
        text="bulk_data.max_upload_size {given} is negative. Using default 104857600.",
        status=LATER,
    )
    categories: tuple[str, ...] = parameter(
        ("",), "More categories of files beside those of the standard.", status=LATER
    )


@dataclass(frozen=True)
class LockDefaults:
    """What locks mean for one kind of entity."""

    lock_required_scopes: tuple[str, ...] = parameter(("",), "Collections that need a lock for writing.", status=LATER)
    breakable: bool = parameter(True, "Another client may break a lock.", status=LATER)


@dataclass(frozen=True)
class LockingDefaults:
    """What locks mean, per kind of entity."""

    components: LockDefaults = group(LockDefaults)
    apps: LockDefaults = group(LockDefaults)


@dataclass(frozen=True)
class Locking:
    """Locks on components and apps."""

    enabled: bool = parameter(True, "Let clients lock entities.", status=LATER)
    default_max_expiration: int = parameter(
        3600, "Longest life of a lock, in seconds.", minimum=1, maximum=INT_MAX, status=LATER
    )
    cleanup_interval: int = parameter(
        30, "How often locks that ran out are removed, in seconds.", minimum=1, maximum=INT_MAX, status=LATER
    )
    defaults: LockingDefaults = group(LockingDefaults)


@dataclass(frozen=True)
class TriggerStorage:
    """Where triggers are kept."""

    path: str = parameter("", "File of the triggers; empty: in memory.", status=LATER)


@dataclass(frozen=True)
class Triggers:
    """Triggers on data."""

    enabled: bool = parameter(True, "Let clients set triggers.", status=LATER)
    max_triggers: int = parameter(
        1000,
        "Triggers at once.",
        minimum=1,
        maximum=INT_MAX,
        text="triggers.max_triggers {given} out of range. Using default 1000.",
        status=LATER,
    )
    on_restart_behavior: str = parameter(
        "reset", "What becomes of triggers at a restart.", choices=("reset", "restore"), status=LATER
    )
    storage: TriggerStorage = group(TriggerStorage)


@dataclass(frozen=True)
class FaultTriggerStorage:
    """Where fault-trigger rules are kept."""

    path: str = parameter("", "JSON file of the rules; empty: in memory.", status=LATER)


@dataclass(frozen=True)
class FaultTriggers:
    """Rules that make faults of data."""

    enabled: bool = parameter(True, "Evaluate the rules.", status=LATER)
    poll_interval_ms: int = parameter(
        1000, "How often the rules are evaluated, in milliseconds.",
        minimum=50, maximum=INT_MAX, on_bad="clamp", status=LATER,
    )  # fmt: skip
    storage: FaultTriggerStorage = group(FaultTriggerStorage)


@dataclass(frozen=True)
class Scripts:
    """Scripts that run on the robot."""

    scripts_dir: str = parameter("", "Directory of the scripts; empty: none can be run.", status=LATER)
    max_file_size_mb: int = parameter(10, "Longest script in megabytes.", minimum=1, maximum=INT_MAX, status=LATER)
    max_concurrent_executions: int = parameter(5, "Scripts running at once.", minimum=1, maximum=INT_MAX, status=LATER)
    default_timeout_sec: int = parameter(
        300, "Longest run of a script, in seconds.", minimum=1, maximum=INT_MAX, status=LATER
    )
    max_execution_history: int = parameter(
        100, "Ended runs that are remembered.", minimum=0, maximum=INT_MAX, status=LATER
    )
    allow_uploads: bool = parameter(True, "Let clients upload scripts.", status=LATER)


@dataclass(frozen=True)
class Updates:
    """Software updates."""

    enabled: bool = parameter(False, "Serve software updates.", status=LATER)


@dataclass(frozen=True)
class EntityFreezeFrame:
    """Values kept with a fault."""

    enabled: bool = parameter(True, "Keep the values of an entity when a fault occurs.", status=LATER)
