"""Parameters of faults: where they come from, and where they are kept.

Only declarations; docs/faults.md says what they mean for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rules import INT_MAX, group, parameter

TOPIC = r"/[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*"


@dataclass(frozen=True)
class Diagnostics:
    """Faults from statuses of `diagnostic_msgs`."""

    enabled: bool = parameter(True, "Make faults of diagnostic statuses that are not OK.")
    topics: tuple[str, ...] = parameter(
        ("/diagnostics",),
        "Topics of type `diagnostic_msgs/msg/DiagnosticArray` that are listened to. Not that of an aggregator, which "
        "repeats what is on `/diagnostics` under other names.",
        pattern=TOPIC,
        clause="full topic names",
    )


@dataclass(frozen=True)
class Rosout:
    """Faults from log lines."""

    enabled: bool = parameter(True, "Make faults of log lines on `/rosout`.")
    min_severity: str = parameter("error", "The least severe lines that count.", choices=("error", "fatal"))
    heal_after_s: float = parameter(
        300.0,
        "A fault made of log lines has passed when its node wrote no such line for so long, in seconds.",
        minimum=1.0,
        maximum=86400.0,
        on_bad="clamp",
    )


@dataclass(frozen=True)
class Actions:
    """Faults from aborted goals."""

    enabled: bool = parameter(True, "Make faults of goals that are aborted, whoever sent them.")


@dataclass(frozen=True)
class Snapshots:
    """Freeze frames."""

    enabled: bool = parameter(
        True, "Keep the latest values of the reporting nodes' topics and parameters when a fault is confirmed."
    )
    topics: tuple[str, ...] = parameter(
        ("",),
        "Full names of the only topics that may be kept. Empty: all that a reporting node publishes.",
        pattern=f"|{TOPIC}",
        clause="full topic names",
    )
    max_per_fault: int = parameter(20, "Snapshots kept with one fault.", minimum=0, maximum=1000, on_bad="clamp")
    max_bytes_per_fault: int = parameter(
        262144, "Bytes of the snapshots of one fault; those beyond are left out.",
        minimum=0, maximum=16777216, on_bad="clamp",
    )  # fmt: skip
    max_bytes: int = parameter(
        67108864, "Bytes of the snapshots of all faults together; beyond, those kept longest ago leave.",
        minimum=0, maximum=INT_MAX, on_bad="clamp",
    )  # fmt: skip


@dataclass(frozen=True)
class Faults:
    """Faults of local entities."""

    backend: str = parameter(
        "auto",
        "Where faults are kept. `embedded`: in this gateway. `fault_manager`: in a fault manager node. `auto`: there "
        "when `ros2_medkit_msgs` is installed and such a node is in the ROS graph, else here.",
        choices=("auto", "embedded", "fault_manager"),
    )
    confirmation_threshold: int = parameter(
        1, "Failed reports until a fault is confirmed. A critical one confirms at once.",
        minimum=1, maximum=1000000, on_bad="clamp",
    )  # fmt: skip
    auto_confirm_after_s: float = parameter(
        0.0, "A fault that is pending for so long is confirmed without more reports, in seconds; 0: never.",
        minimum=0.0, maximum=86400.0, on_bad="clamp",
    )  # fmt: skip
    healing_enabled: bool = parameter(True, "A fault is over when its sources pass; otherwise it has to be cleared.")
    healing_threshold: int = parameter(
        3, "How often in a row every source of a fault has to pass until it is healed.",
        minimum=1, maximum=1000000, on_bad="clamp",
    )  # fmt: skip
    max_faults: int = parameter(
        10000,
        "Faults kept. When there are more, those that are healed or cleared for longest leave; while all are active, "
        "new ones are refused and counted in `/health`.",
        minimum=1, maximum=1000000, on_bad="clamp",
    )  # fmt: skip
    diagnostics: Diagnostics = group(Diagnostics)
    rosout: Rosout = group(Rosout)
    actions: Actions = group(Actions)
    snapshots: Snapshots = group(Snapshots)
