"""The gateway's own parameters, section by section (API.md §11); aggregation's are in `aggregation.py`.

Only declarations: what they mean for each other is in `parameters.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rules import INT_MAX, group, parameter

LATER = "later"
COMPAT = "compat"
ID = r"[A-Za-z0-9_-]{1,256}"
LAYER = ("", "authoritative", "enrichment", "fallback")


@dataclass(frozen=True)
class Tls:
    """HTTPS of this gateway (API.md §9.5). A wrong value never ends in plain HTTP."""

    enabled: bool = parameter(False, "Serve HTTPS, and nothing else on this port.", on_bad="refuse")
    cert_file: str = parameter("", "Certificate chain of this gateway, PEM.", on_bad="refuse")
    key_file: str = parameter("", "Private key of the certificate, PEM.", on_bad="refuse")
    ca_file: str = parameter("", "Not used; accepted as the C++ gateway accepts it.", status=COMPAT)
    min_version: str = parameter(
        "1.2", "Oldest TLS version that a client may speak.", choices=("1.2", "1.3"), on_bad="refuse"
    )


@dataclass(frozen=True)
class Server:
    """Where the REST server listens, and what it accepts."""

    host: str = parameter(
        "127.0.0.1",
        "Address to listen on. The default is reachable from this machine only; `0.0.0.0`: every network interface.",
        pattern=r"\S+",
        level="WARN",
        clause="an address or a host name",
    )
    port: int = parameter(
        8080,
        "TCP port of the REST server.",
        minimum=1024,
        maximum=65535,
        text="Invalid port {given}. Must be between 1024-65535. Using default 8080.",
    )
    http_thread_pool_size: int = parameter(
        6, "Threads of the C++ gateway's HTTP server. This gateway serves from one event loop.",
        minimum=1, maximum=1024, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
    keep_alive_timeout_sec: int = parameter(
        75, "How long an idle HTTP connection is kept open for the next request, in seconds.",
        minimum=1, maximum=3600, on_bad="clamp",
    )  # fmt: skip
    executor_threads: int = parameter(
        2, "Executor threads of the C++ gateway. This gateway has one ROS thread, which is faster in Python.",
        minimum=1, maximum=256, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
    allowed_hosts: tuple[str, ...] = parameter(
        ("",),
        "More host names under which a web page served by this gateway may send commands. Addresses, localhost and the "
        "name of this machine always may; the list keeps DNS rebinding out.",
    )
    max_body_bytes: int = parameter(
        10485760, "Longest request body in bytes; a longer one is answered with 413.",
        minimum=1024, maximum=1073741824, on_bad="clamp",
    )  # fmt: skip
    tls: Tls = group(Tls)


@dataclass(frozen=True)
class Gateway:
    """How this gateway calls itself."""

    name: str = parameter(
        "",
        "Name that this gateway shows to people and peers. Empty: the name of its ROS node.",
        pattern=r"(?!.*__)[A-Za-z0-9_-]{1,64}",
        clause="1 to 64 letters, digits, `-` and `_`, without `__`",
    )


@dataclass(frozen=True)
class ManifestLayer:
    """The manifest as a source of entities."""

    enabled: bool = parameter(True, "Use the manifest in hybrid mode.")
    watch: bool = parameter(True, "Read the manifest again when one of its files changes.")
    fragments_dir: str = parameter("", "Directory of manifest fragments that are added to the manifest.")


@dataclass(frozen=True)
class Inventory:
    """The inventory as a source of components."""

    csv_path: str = parameter("", "CSV file with hardware and software identities of components.")


@dataclass(frozen=True)
class DefaultComponent:
    """The host component."""

    enabled: bool = parameter(True, "List this machine as a component that all apps run on.")
    id: str = parameter(
        "",
        "Entity id of the host component. Empty: made of the host name. Give each gateway its own when several on one "
        "machine are aggregated, because components of one id are merged.",
        pattern=ID,
        clause="1 to 256 letters, digits, `-` and `_`",
    )


@dataclass(frozen=True)
class Runtime:
    """What is made of the ROS graph."""

    enabled: bool = parameter(True, "Use the ROS graph in hybrid mode.")
    create_functions_from_namespaces: bool = parameter(
        True, "Make a function of every first namespace segment, which hosts the nodes below it."
    )
    filter_internal_nodes: bool = parameter(True, "Leave out nodes whose name begins with an underscore.")
    default_component: DefaultComponent = group(DefaultComponent)


@dataclass(frozen=True)
class GapFill:
    """Which runtime entities a manifest is filled up with."""

    allow_heuristic_apps: bool = parameter(True, "List nodes that the manifest does not name.")
    allow_heuristic_functions: bool = parameter(False, "List functions made of namespaces as well.")
    namespace_whitelist: tuple[str, ...] = parameter(("",), "Fill up from these namespaces only.")
    namespace_blacklist: tuple[str, ...] = parameter(("",), "Never fill up from these namespaces.")


@dataclass(frozen=True)
class LayerPolicies:
    """Which layer wins, per group of fields, in hybrid mode."""

    identity: str = parameter("", "Who wins for names, descriptions and tags.", choices=LAYER)
    hierarchy: str = parameter("", "Who wins for parents and areas.", choices=LAYER)
    live_data: str = parameter("", "Who wins for topics, services and actions.", choices=LAYER)
    status: str = parameter("", "Who wins for being online.", choices=LAYER)
    metadata: str = parameter("", "Who wins for everything else.", choices=LAYER)


@dataclass(frozen=True)
class Layers:
    """The two layers of hybrid mode."""

    manifest: LayerPolicies = group(LayerPolicies)
    runtime: LayerPolicies = group(LayerPolicies)


@dataclass(frozen=True)
class MergePipeline:
    """How manifest and ROS graph become one tree."""

    gap_fill: GapFill = group(GapFill)
    layers: Layers = group(Layers)


@dataclass(frozen=True)
class Discovery:
    """Where the local entities come from."""

    mode: str = parameter(
        "runtime_only",
        "`runtime_only`: entities come from the ROS graph. `hybrid`: from a manifest and the ROS graph. "
        "`manifest_only`: from a manifest. Without a usable manifest hybrid is runtime_only, and manifest_only does "
        "not start.",
        choices=("runtime_only", "hybrid", "manifest_only"),
        level="WARN",
    )
    manifest_path: str = parameter(
        "",
        "The manifest, a YAML file. It may begin with `$(find-pkg-share <package>)` or `package://<package>`, the "
        "share directory of a ROS package.",
    )
    manifest_strict_validation: bool = parameter(True, "Reject a manifest that gives warnings.")
    refresh_debounce_ms: int = parameter(
        250,
        "How long the ROS graph must be quiet before a change is taken over, in milliseconds.",
        minimum=0,
        maximum=60000,
        text="Invalid discovery.refresh_debounce_ms {given}ms. Must be between 0-60000. Using default 250ms.",
    )
    manifest: ManifestLayer = group(ManifestLayer)
    inventory: Inventory = group(Inventory)
    runtime: Runtime = group(Runtime)
    merge_pipeline: MergePipeline = group(MergePipeline)


@dataclass(frozen=True)
class EntityCache:
    """The C++ gateway's entity cache."""

    capacity: int = parameter(
        256, "Entities that the C++ gateway makes room for at start. Here the tree grows as needed.",
        minimum=16, maximum=1000000, on_bad="clamp", status=COMPAT,
    )  # fmt: skip


@dataclass(frozen=True)
class FaultManager:
    """The fault manager node."""

    namespace: str = parameter("", "Namespace of the fault manager's services and topics.")
    service_timeout_sec: float = parameter(
        5.0,
        "How long a call of the fault manager may take, in seconds.",
        minimum=1e-3,
        maximum=float(INT_MAX),
        text="fault_manager.service_timeout_sec {given} must be finite and > 0. Using default 5.0.",
        clause="finite and greater than 0",
    )


@dataclass(frozen=True)
class Logs:
    """Log lines of the nodes."""

    buffer_size: int = parameter(
        200, "Log lines kept per logger, of at most ten times as many loggers.",
        minimum=1, maximum=100000, on_bad="clamp",
    )  # fmt: skip


@dataclass(frozen=True)
class Cors:
    """Which web pages of other origins may use this gateway (API.md §1.10). Off while `allowed_origins` is empty."""

    allowed_origins: tuple[str, ...] = parameter(
        ("",), "Origins such as `http://localhost:5173`. `*` means every origin. Empty: no other origin may."
    )
    allowed_methods: tuple[str, ...] = parameter(
        ("GET", "PUT", "POST", "DELETE", "OPTIONS"), "Methods that those pages may use."
    )
    allowed_headers: tuple[str, ...] = parameter(
        ("Content-Type", "Accept"), "Request headers that those pages may send."
    )
    allow_credentials: bool = parameter(
        False, "Let browsers send cookies and credentials. Together with `*` the gateway does not start.",
        on_bad="refuse",
    )  # fmt: skip
    max_age_seconds: int = parameter(
        86400, "How long a browser may remember the answer to its preflight, in seconds.", minimum=0, maximum=INT_MAX
    )


@dataclass(frozen=True)
class Sse:
    """Event streams of clients; those of peers are counted by `aggregation.max_peer_streams`."""

    max_clients: int = parameter(
        100, "Event streams that clients may hold open at once.", minimum=1, maximum=1024, on_bad="clamp"
    )
    max_subscriptions: int = parameter(
        100,
        "Cyclic subscriptions at once.",
        minimum=1,
        maximum=INT_MAX,
        text="sse.max_subscriptions {given} must be >= 1. Using default 100.",
        status=LATER,
    )
    max_duration_sec: int = parameter(
        3600,
        "Longest duration of a cyclic subscription, in seconds.",
        minimum=1,
        maximum=INT_MAX,
        text="sse.max_duration_sec {given} must be in [1, 2147483647]. Using default 3600.",
        status=LATER,
    )


@dataclass(frozen=True)
class Docs:
    """The OpenAPI document."""

    enabled: bool = parameter(True, "Serve the OpenAPI document and Swagger UI under `/api/v1/docs`.")


@dataclass(frozen=True)
class Auth:
    """Tokens and roles (API.md §9). A wrong value never ends in an open gateway."""

    enabled: bool = parameter(False, "Give tokens to clients, and ask for them.", on_bad="refuse")
    jwt_secret: str = parameter(
        "",
        "HS256: the secret that tokens are signed with, at least 32 characters. RS256: the private key, PEM file. "
        "A file or the environment variable `MEDKIT_GATEWAY_JWT_SECRET` is the better place for it.",
        secret=True,
        on_bad="refuse",
    )
    jwt_secret_file: str = parameter(
        "", "File with the secret instead; for RS256 the PEM file. One source only.", on_bad="refuse"
    )
    jwt_public_key: str = parameter("", "RS256: the public key, PEM file.", on_bad="refuse")
    jwt_algorithm: str = parameter("HS256", "Algorithm of the tokens.", choices=("HS256", "RS256"), on_bad="refuse")
    token_expiry_seconds: int = parameter(
        3600, "Life of an access token, in seconds.", minimum=1, maximum=INT_MAX, on_bad="refuse"
    )
    refresh_token_expiry_seconds: int = parameter(
        86400, "Life of a refresh token, in seconds.", minimum=1, maximum=INT_MAX, on_bad="refuse"
    )
    require_auth_for: str = parameter(
        "write",
        "Which requests need a token: `none`; `write`, which is all but GET, HEAD and OPTIONS; `all`.",
        choices=("none", "write", "all"),
        on_bad="refuse",
    )
    issuer: str = parameter(
        "ros2_medkit_gateway",
        "Issuer in the tokens; those of another one are refused.",
        pattern=r"\S+",
        clause="a text without spaces",
        on_bad="refuse",
    )
    clients: tuple[str, ...] = parameter(
        ("",),
        "Clients as `id:secret:role`, the roles being viewer, operator, configurator and admin. "
        "A file or the environment variable `MEDKIT_GATEWAY_CLIENTS` is the better place for them.",
        secret=True,
        on_bad="refuse",
    )
    clients_file: str = parameter("", "File with one client a line instead. One source only.", on_bad="refuse")


@dataclass(frozen=True)
class RateLimiting:
    """Requests per minute (API.md §9.6). What is wrong here switches the limits off, see `access.py`."""

    enabled: bool = parameter(False, "Limit requests per minute.")
    global_requests_per_minute: int = parameter(600, "Requests per minute of all clients together.")
    client_requests_per_minute: int = parameter(60, "Requests per minute of one client, by its address.")
    endpoint_limits: tuple[str, ...] = parameter(
        ("",),
        "Requests per minute of one client to single routes, as `pattern:rpm`: `/api/v1/apps/*/data:30`, where `*` is "
        "one segment. The first pattern that matches counts.",
    )
    client_cleanup_interval_seconds: int = parameter(300, "How often clients that went away are forgotten, in seconds.")
    client_max_idle_seconds: int = parameter(600, "After how long an idle client is forgotten, in seconds.")


@dataclass(frozen=True)
class DataProvider:
    """Reading topics."""

    max_pool_size: int = parameter(
        256, "Subscriptions kept alive at once.", minimum=1, maximum=4096, on_bad="clamp"
    )  # fmt: skip
    cold_wait_cap: int = parameter(
        4, "Topics that may be waited for at once, when no message has come yet. Readers of one topic share one wait.",
        minimum=0, maximum=1024, on_bad="clamp",
    )  # fmt: skip
    max_parallel_samples: int = parameter(
        8, "Topics read at once for one request. Lists of this gateway wait for no topic.",
        minimum=1, maximum=256, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
    idle_safety_net_sec: int = parameter(
        900, "A subscription that nobody read for so long is closed, in seconds; 0: never.",
        minimum=0, maximum=86400, on_bad="clamp",
    )  # fmt: skip
    idle_sweep_tick_sec: int = parameter(
        60, "How often idle subscriptions are looked for, in seconds; 0: never.",
        minimum=0, maximum=3600, on_bad="clamp",
    )  # fmt: skip


@dataclass(frozen=True)
class SubscriptionExecutor:
    """The C++ gateway's subscription thread."""

    max_queue_depth: int = parameter(
        256, "Jobs waiting for the subscription thread.", minimum=16, maximum=4096, on_bad="clamp", status=COMPAT
    )
    watchdog_threshold_ms: int = parameter(
        5000, "After how long a stuck job is reported, in milliseconds.",
        minimum=100, maximum=60000, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
    watchdog_tick_ms: int = parameter(
        1000, "How often stuck jobs are looked for, in milliseconds.",
        minimum=10, maximum=10000, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
    graph_poll_tick_ms: int = parameter(
        100, "How often the ROS graph is polled, in milliseconds. This gateway is told of changes instead.",
        minimum=10, maximum=10000, on_bad="clamp", status=COMPAT,
    )  # fmt: skip
