"""What a configuration becomes: defaults, rules, fallbacks, refusals, and what is said about them."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import medkit_gateway_py
from medkit_gateway_py.parameters import (
    REMOVED,
    SPECIFICATIONS,
    Finding,
    GatewayConfig,
    PeerUrl,
    StaticPeer,
    check,
    peer_url,
)
from medkit_gateway_py.parameters.rules import hide_credentials

PEERS = {"aggregation.enabled": True, "aggregation.peer_urls": ["http://b:8080"], "aggregation.peer_names": ["b"]}


def messages(values: dict[str, object]) -> list[str]:
    return [finding.message for finding in check(values).findings]


def only(values: dict[str, object]) -> Finding:
    findings = check(values).findings
    assert len(findings) == 1, findings
    return findings[0]


def of(config: object, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_nothing_given_is_the_default_configuration_without_a_word() -> None:
    checked = check({})
    assert checked.config == GatewayConfig()
    assert checked.findings == ()
    assert list(checked.effective) == list(SPECIFICATIONS)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("server.host", "127.0.0.1"),
        ("server.port", 8080),
        ("server.keep_alive_timeout_sec", 75),
        ("server.max_body_bytes", 10485760),
        ("refresh_interval_ms", 10000),
        ("discovery.refresh_debounce_ms", 250),
        ("discovery.mode", "runtime_only"),
        ("topic_sample_timeout_sec", 1.0),
        ("sse.max_clients", 100),
        ("cors.allowed_origins", ()),
        ("cors.allowed_methods", ("GET", "PUT", "POST", "DELETE", "OPTIONS")),
        ("aggregation.enabled", False),
        ("aggregation.timeout_ms", 2000),
        ("aggregation.mdns_service", "_medkit._tcp.local"),
        ("aggregation.max_discovered_peers", 50),
        ("aggregation.naming", "collision"),
        ("aggregation.unreachable", "drop"),
        ("aggregation.max_hops", 8),
        ("aggregation.max_entities_per_peer", 20000),
        ("aggregation.max_peer_streams", 32),
        ("aggregation.forget_after_s", 604800),
        ("discovery.runtime.default_component.id", ""),
        ("gateway.name", ""),
        ("state_dir", ""),
    ],
)
def test_defaults_are_those_of_the_contract(name: str, default: object) -> None:
    assert of(GatewayConfig(), name) == default


def test_the_type_of_each_parameter_is_the_type_of_its_field() -> None:
    words = {"bool": bool, "int": int, "double": float, "string": str, "string_array": tuple[str, ...]}

    def walk(section: type, prefix: str) -> None:
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            if dataclasses.is_dataclass(hints[field.name]):
                walk(hints[field.name], f"{prefix}{field.name}.")
            elif prefix + field.name in SPECIFICATIONS:
                assert words[SPECIFICATIONS[prefix + field.name].type] == hints[field.name], prefix + field.name

    walk(GatewayConfig, "")


def test_every_parameter_is_described_and_every_number_has_its_range() -> None:
    for spec in SPECIFICATIONS.values():
        assert spec.description.endswith("."), spec.name
        assert spec.read_only
        # Rate limits are judged together: a wrong one switches all of them off (API.md §9.6).
        if spec.type in ("int", "double") and not spec.name.startswith("rate_limiting."):
            assert spec.minimum is not None, spec.name
            assert spec.maximum is not None, spec.name
            assert spec.minimum <= spec.default <= spec.maximum, spec.name  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "value", "used", "text"),
    [
        ("server.port", 80, 8080, "Invalid port 80. Must be between 1024-65535. Using default 8080."),
        ("server.port", 65536, 8080, "Invalid port 65536. Must be between 1024-65535. Using default 8080."),
        ("server.port", 2**32 + 9000, 8080, "Invalid port 4294976296. Must be between 1024-65535. Using default 8080."),
        ("refresh_interval_ms", 99, 10000, "Invalid backstop refresh interval 99ms"),
        ("refresh_interval_ms", 60001, 10000, "Invalid backstop refresh interval 60001ms"),
        ("discovery.refresh_debounce_ms", -1, 250, "Invalid discovery.refresh_debounce_ms -1ms"),
        ("topic_sample_timeout_sec", 0.05, 1.0, "topic_sample_timeout_sec 0.05 is outside 0.1-30.0"),
        ("topic_sample_timeout_sec", math.nan, 1.0, "topic_sample_timeout_sec nan is outside 0.1-30.0"),
        ("topic_sample_timeout_sec", math.inf, 1.0, "topic_sample_timeout_sec inf is outside 0.1-30.0"),
        ("fault_manager.service_timeout_sec", 0.0, 5.0, "fault_manager.service_timeout_sec 0.0 must be finite and > 0"),
        ("sse.max_subscriptions", 0, 100, "sse.max_subscriptions 0 must be >= 1"),
        ("sse.max_duration_sec", 2**31, 3600, "sse.max_duration_sec 2147483648 must be in [1, 2147483647]"),
        ("triggers.max_triggers", 0, 1000, "triggers.max_triggers 0 out of range. Using default 1000."),
        ("bulk_data.max_upload_size", -1, 104857600, "bulk_data.max_upload_size -1 is negative"),
        ("server.host", "", "127.0.0.1", "server.host '' must be an address or a host name."),
        ("aggregation.peer_scheme", "ftp", "http", "aggregation.peer_scheme 'ftp' must be one of http, https."),
        ("aggregation.naming", "x", "collision", "aggregation.naming 'x' must be one of collision, always_prefix."),
        ("discovery.mode", "x", "runtime_only", "discovery.mode 'x' must be one of runtime_only, hybrid,"),
        ("gateway.name", "a__b", "", "gateway.name 'a__b' must be 1 to 64 letters, digits, `-` and `_`, without `__`."),
        ("discovery.runtime.default_component.id", "a b", "", "discovery.runtime.default_component.id 'a b' must be"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_and_the_default_used(name: str, value: object, used: object, text: str) -> None:
    checked = check({name: value})
    assert len(checked.findings) == 1
    finding = checked.findings[0]
    assert finding.message.startswith(text)
    assert finding.parameter == name
    assert not finding.fatal
    assert finding.level == ("WARN" if name in ("server.host", "discovery.mode") else "ERROR")
    assert of(checked.config, name) == used == checked.effective[name]


CLAMPED = [
    ("server.http_thread_pool_size", 1, 1024),
    ("server.keep_alive_timeout_sec", 1, 3600),
    ("server.executor_threads", 1, 256),
    ("entity_cache.capacity", 16, 1000000),
    ("service_call_timeout_sec", 1, 3600),
    ("logs.buffer_size", 1, 100000),
    ("sse.max_clients", 1, 1024),
    ("data_provider.max_pool_size", 1, 4096),
    ("data_provider.cold_wait_cap", 0, 1024),
    ("data_provider.max_parallel_samples", 1, 256),
    ("data_provider.idle_safety_net_sec", 0, 86400),
    ("data_provider.idle_sweep_tick_sec", 0, 3600),
    ("subscription_executor.max_queue_depth", 16, 4096),
    ("subscription_executor.watchdog_threshold_ms", 100, 60000),
    ("subscription_executor.watchdog_tick_ms", 10, 10000),
    ("subscription_executor.graph_poll_tick_ms", 10, 10000),
    ("fault_triggers.poll_interval_ms", 50, 2147483647),
    ("aggregation.max_discovered_peers", 1, 1000),
    ("aggregation.timeout_ms", 50, 60000),
]


@pytest.mark.parametrize(("name", "low", "high"), CLAMPED)
def test_a_clamped_value_is_reported_exactly_once(name: str, low: int, high: int) -> None:
    for value, used in ((low - 1, low), (high + 1, high), (-(2**63), low), (2**63 - 1, high)):
        checked = check({name: value})
        assert [finding.message for finding in checked.findings] == [f"{name} {value} clamped to {used}"]
        assert of(checked.config, name) == used
    assert [m for m in messages({name: low}) + messages({name: high}) if "clamped" in m] == []


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("server.port", "8081", "a string"),
        ("server.port", 8081.0, "a double"),
        ("server.port", True, "a bool"),
        ("server.port", None, "an empty list"),
        ("topic_sample_timeout_sec", "1.0", "a string"),
        ("topic_sample_timeout_sec", True, "a bool"),
        ("aggregation.enabled", "true", "a string"),
        ("aggregation.enabled", 1, "an int"),
        ("gateway.name", 7, "an int"),
        ("cors.allowed_origins", "http://x", "a string"),
        ("cors.allowed_origins", [1, 2], "an array of int"),
        ("cors.allowed_origins", b"x", "a byte array"),
    ],
)
def test_a_wrong_type_is_an_error_with_parameter_value_and_rule(name: str, value: object, kind: str) -> None:
    finding = only({name: value})
    assert finding.level == "ERROR"
    assert finding.parameter == name
    assert f"{name} must be " in finding.message
    assert kind in finding.message
    assert "Using default" in finding.message
    assert check({name: value}).config == GatewayConfig()


def test_an_int_is_taken_for_a_double() -> None:
    checked = check({"topic_sample_timeout_sec": 3})
    assert checked.findings == ()
    assert type(checked.effective["topic_sample_timeout_sec"]) is float


@pytest.mark.parametrize("empty", [b"", bytearray(), [], (), [""], None])
def test_every_form_of_an_empty_array_is_an_empty_array(empty: object) -> None:
    checked = check({"cors.allowed_origins": empty})
    assert checked.findings == ()
    assert checked.config.cors.allowed_origins == ()
    assert checked.effective["cors.allowed_origins"] == [""]


def test_empty_strings_in_an_array_are_left_out() -> None:
    assert check({"server.allowed_hosts": ["", "robot", ""]}).config.server.allowed_hosts == ("robot",)


@pytest.mark.parametrize(
    "values",
    [
        {"auth.enabled": True, "auth.token_expiry_seconds": 60, "auth.refresh_token_expiry_seconds": 59},
        {"auth.issuer": "two words"},
        {"auth.enabled": "true"},
        {"auth.jwt_algorithm": "none"},
        {"auth.require_auth_for": 5},
        {"server.tls.enabled": True, "server.tls.cert_file": "c"},
        {"server.tls.enabled": "yes"},
        {"server.tls.min_version": "1.0"},
        {"aggregation.require_tls": "true"},
        {"cors.allowed_origins": ["*"], "cors.allow_credentials": True},
        {"discovery.mode": "manifest_only"},
        {"parameter_service_timeout_sec": 10.1},
        {"parameter_service_negative_cache_sec": math.nan},
    ],
)
def test_what_would_be_unsafe_or_wrong_refuses_to_start(values: dict[str, object]) -> None:
    refused = check(values).refused
    assert refused
    assert all(finding.level == "ERROR" for finding in refused)
    assert any("not start" in finding.message for finding in refused)


def test_tls_without_files_names_each_missing_file() -> None:
    found = {finding.parameter for finding in check({"server.tls.enabled": True}).refused}
    assert {"server.tls.cert_file", "server.tls.key_file"} <= found


def test_authentication_in_cleartext_on_a_network_is_warned_about() -> None:
    tls = {"server.tls.enabled": True, "server.tls.cert_file": "c", "server.tls.key_file": "k"}
    assert "cleartext" in only({"auth.enabled": True, "server.host": "0.0.0.0"}).message
    assert messages({"auth.enabled": True, "server.host": "0.0.0.0", **tls}) == []
    for host in ("127.0.0.1", "::1", "localhost"):
        assert messages({"auth.enabled": True, "server.host": host}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"global_requests_per_minute": 0},
        {"client_requests_per_minute": -1},
        {"client_requests_per_minute": 601},
        {"client_cleanup_interval_seconds": 0},
        {"client_max_idle_seconds": 299},
        {"endpoint_limits": ["/api/v1/apps:0"]},
        {"endpoint_limits": ["/api/v1/apps"]},
        {"endpoint_limits": ["apps:5"]},
        {"endpoint_limits": ["/api/v1/apps:5", "/x:-5"]},
    ],
)
def test_a_wrong_rate_limit_switches_them_off_with_an_error(wrong: dict[str, object]) -> None:
    values = {"rate_limiting.enabled": True, **{f"rate_limiting.{name}": value for name, value in wrong.items()}}
    checked = check(values)
    assert [(finding.level, finding.fatal) for finding in checked.findings] == [("ERROR", False)]
    assert not checked.config.rate_limiting.enabled
    assert check({**values, "rate_limiting.enabled": False}).findings == ()


def test_secrets_do_not_come_out_with_the_configuration() -> None:
    config = check({"auth.jwt_secret": SECRET, "auth.clients": [f"id:{SECRET}:admin"]}).config
    assert SECRET not in repr(config)


def test_hybrid_falls_back_to_runtime_only_with_a_warning() -> None:
    checked = check({"discovery.mode": "hybrid"})
    assert checked.config.discovery.mode == checked.effective["discovery.mode"] == "runtime_only"
    assert [(finding.level, finding.fatal) for finding in checked.findings] == [("WARN", False)]


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("mdns_service", "_medkit._tcp.local.", "_medkit._tcp.local."),
        ("mdns_service", "medkit", "_medkit._tcp.local"),
        ("mdns_service", "_a-name-of-16-chs._tcp.local", "_medkit._tcp.local"),
        ("peer_scheme", "ftp", "http"),
        ("mdns_interfaces", ["192.168.1.2", "fe80::1%eth0", ""], ("192.168.1.2", "fe80::1%eth0")),
    ],
)
def test_mdns_parameters_are_taken_or_replaced(name: str, value: object, used: object) -> None:
    checked = check({f"aggregation.{name}": value})
    assert getattr(checked.config.aggregation, name) == used
    as_given = tuple(filter(None, value)) if isinstance(value, list) else value
    assert bool(checked.findings) == (as_given != used)


def test_an_interface_that_is_no_address_keeps_the_gateway_from_announcing_on_others() -> None:
    assert check({"aggregation.mdns_interfaces": ["eth0!"]}).refused


def test_the_standing_configuration_gives_nothing_to_say() -> None:
    assert check({}).findings == ()


def test_announcing_without_a_host_listens_everywhere_and_warns() -> None:
    announce = {"aggregation.enabled": True, "aggregation.announce": True}
    assert check(announce).config.server.host == "0.0.0.0"
    assert [f.level for f in check(announce).findings if f.parameter == "server.host"] == ["WARN"]
    assert check({**announce, "server.host": "127.0.0.1"}).config.server.host == "127.0.0.1"
    assert check({"aggregation.announce": True}).config.server.host == "127.0.0.1"


# --- peers ----------------------------------------------------------------------------------------------------


def peers(urls: list[str], names: list[str], **more: object) -> tuple[tuple[StaticPeer, ...], list[Finding]]:
    values = {"aggregation.enabled": True, "aggregation.peer_urls": urls, "aggregation.peer_names": names}
    checked = check({**values, **{f"aggregation.{name}": value for name, value in more.items()}})
    return checked.config.aggregation.peers, [finding for finding in checked.findings if finding.level == "ERROR"]


def test_arrays_of_different_lengths_use_no_static_peer() -> None:
    used, errors = peers(["http://a:1", "http://b:2"], ["a"])
    assert used == ()
    assert len(errors) == 1
    assert "has 2 entries and aggregation.peer_names has 1" in errors[0].message


def test_empty_pairs_are_ignored_and_places_still_count() -> None:
    assert peers(["", "http://b:8080"], ["", "b"]) == ((StaticPeer("b", "http://b:8080"),), [])
    assert peers(["http://b:8080", ""], ["b"]) == ((StaticPeer("b", "http://b:8080"),), [])
    used, errors = peers(["http://a:8080", ""], ["", "b"])
    assert used == ()
    assert len(errors) == 2


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("ftp://x:1", "bad"),
        ("x:8080", "bad"),
        ("http://x:8080/?a=1", "bad"),
        ("http://x:8080", "a__b"),
        ("http://x:8080", "a b"),
        ("http://x:8080", "n" * 65),
        ("http://x:8080", "good"),
    ],
)
def test_a_bad_pair_is_named_and_the_others_are_used(url: str, name: str) -> None:
    used, errors = peers(["http://g:8080", url, "http://h:8080"], ["good", name, "other"])
    assert used == (StaticPeer("good", "http://g:8080"), StaticPeer("other", "http://h:8080"))
    assert len(errors) == 1
    assert f"'{name}'" in errors[0].message


def test_require_tls_refuses_cleartext_peers_only() -> None:
    used, errors = peers(["http://a:1", "https://b:2"], ["a", "b"], require_tls=True)
    assert [peer.name for peer in used] == ["b"]
    assert "'a'" in errors[0].message
    assert "require_tls" in errors[0].message


def test_each_cleartext_peer_gives_one_warning() -> None:
    values = {**PEERS, "aggregation.peer_urls": ["http://b", "https://c", "http://d"]}
    found = check({**values, "aggregation.peer_names": ["b", "c", "d"]}).findings
    assert [(finding.level, finding.value) for finding in found] == [("WARN", "http://b"), ("WARN", "http://d")]


def test_a_peers_file_without_aggregation_is_not_read_and_it_is_said() -> None:
    finding = only({"aggregation.peers_file": "peers.yaml"})
    assert (finding.level, "peers.yaml is not read" in finding.message) == ("WARN", True)
    assert messages({"aggregation.peers_file": "peers.yaml", "aggregation.enabled": True}) == []


def test_forwarding_auth_without_tls_is_warned_about() -> None:
    found = check({"aggregation.enabled": True, "aggregation.forward_auth": True}).findings
    assert [(f.level, f.parameter) for f in found] == [("WARN", "aggregation.forward_auth")]
    assert (
        messages({"aggregation.enabled": True, "aggregation.forward_auth": True, "aggregation.require_tls": True}) == []
    )


def test_peers_without_aggregation_are_not_used_and_it_is_said() -> None:
    checked = check({**PEERS, "aggregation.enabled": False})
    assert checked.config.aggregation.peers == ()
    assert [(f.level, f.parameter) for f in checked.findings] == [("WARN", "aggregation.enabled")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://localhost:8081", PeerUrl("http", "localhost", 8081)),
        ("HTTP://LocalHost:8081/", PeerUrl("http", "localhost", 8081)),
        ("https://gateway-b", PeerUrl("https", "gateway-b", 443)),
        ("http://gateway-b", PeerUrl("http", "gateway-b", 80)),
        ("http://[::1]:8080", PeerUrl("http", "::1", 8080)),
        ("http://proxy/robots/b/", PeerUrl("http", "proxy", 80, "/robots/b")),
        ("http://my_robot.local.:8080", PeerUrl("http", "my_robot.local.", 8080)),
    ],
)
def test_peer_urls_that_are_good(text: str, parts: PeerUrl) -> None:
    assert peer_url(text) == parts
    assert peer_url(parts.text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "", "localhost:8080", "//localhost:8080", "file:///etc", "http:localhost", "http:///x", "http://", "http://:80",
        "http://h:0", "http://h:65536", "http://h:x", "http://h:", "http://h:80:80", "http://u@h", "http://u:p@h",
        "http://h?", "http://h/#", "http://h/a b", "http://h\n", "http://h/\\x", "http://h/../x", "http://h//x",
        "http://h:8080/api/v1", "http://h:8080/api/v1/", "http://[::1", "http://a..b/%zz@", "http://-", "http://h,i",
        "http://" + "h" * 254, "http://h/" + "x" * 2048,
    ],
)  # fmt: skip
def test_peer_urls_that_are_refused(text: str) -> None:
    assert isinstance(peer_url(text), str)


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z@:?#/\[\].0-9]{0,40}", fullmatch=True))
def test_peer_url_is_total_and_its_result_stable(text: str) -> None:
    result = peer_url(text)
    if isinstance(result, PeerUrl):
        assert peer_url(result.text) == result
        assert not set("@?#") & set(result.text)


SECRET = "Tr0ub4dor"
HARMLESS = st.text(alphabet="ab:/?#[]@ ,'\"=&%", max_size=8)


@given(
    HARMLESS,
    HARMLESS,
    st.sampled_from(["http://{}@host:80", "https://u:{}@h", "http://h/?t={}", "http://h#{}", "{}@h"]),
)
def test_credentials_never_appear_in_findings(before: str, after: str, form: str) -> None:
    url = form.format(before + SECRET + after)
    # A scheme is no credential, whatever it says.
    assume(SECRET not in url.partition("://")[0] or "@" in url.partition("://")[0])
    cases: list[dict[str, object]] = [
        {**PEERS, "aggregation.peer_urls": [url]},
        {**PEERS, "aggregation.peer_urls": [url, "http://x"]},
        {**PEERS, "aggregation.peer_urls": url},
    ]
    if "@" in url.split(SECRET)[1] or "?" in url.split(SECRET)[0] or "#" in url.split(SECRET)[0]:
        for values in cases:
            checked = check(values)
            assert SECRET not in str(checked.findings)
            assert SECRET not in str(checked.effective)


@pytest.mark.parametrize("value", [SECRET, [SECRET], 5, [f"id:{SECRET}:admin"]])
def test_secret_parameters_are_never_shown(value: object) -> None:
    for name in ("auth.jwt_secret", "auth.clients"):
        assert SECRET not in str(check({name: value, "auth.enabled": True}).findings)


def test_hiding_credentials_keeps_what_tells_the_peer_apart() -> None:
    assert hide_credentials("http://u:p@h:80/x") == "http://***@h:80/x"
    assert hide_credentials("http://h:80/x?token=1") == "http://h:80/x?***"
    assert hide_credentials("http://h:80/x") == "http://h:80/x"
    assert hide_credentials("a name") == "a name"


# --- names that are no parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", REMOVED)
def test_each_removed_parameter_is_warned_about_once_and_ignored(name: str) -> None:
    assert len(REMOVED) == 8
    finding = only({name: "x"})
    assert finding.level == "WARN"
    assert "was removed" in finding.message
    assert check({name: "x"}).config == GatewayConfig()


def test_an_unknown_name_gives_the_nearest_one() -> None:
    assert "Did you mean server.port?" in only({"server.prot": 1}).message
    assert "Did you mean aggregation.peer_urls?" in only({"aggregation.peer_url": "x"}).message
    assert "Did you mean" not in only({"zzzz": 1}).message


def test_the_value_of_an_unknown_name_is_not_shown() -> None:
    assert SECRET not in str(check({"auth.jwt_secrets": SECRET}).findings)


@pytest.mark.parametrize(
    "name", ["use_sim_time", "start_type_description_service", "qos_overrides./rosout.publisher.depth"]
)
def test_parameters_of_rclpy_are_not_ours_to_judge(name: str) -> None:
    assert check({name: True}).findings == ()


def test_parameters_of_plugins_need_their_plugin() -> None:
    assert only({"plugins.x.port": 1}).level == "ERROR"
    checked = check({"plugins": ["x"], "plugins.x.port": 1, "plugins.x.a.b": "c"})
    assert checked.findings == ()
    assert checked.config.plugin_parameters == {"x": {"port": 1, "a.b": "c"}}
    assert "library of the C++ gateway" in only({"plugins": ["x"], "plugins.x.path": "/lib/x.so"}).message


def test_what_has_no_effect_yet_is_said_when_it_is_set() -> None:
    assert only({"scripts.scripts_dir": "/s"}).message == "scripts.scripts_dir has no effect in this version."
    assert only({"server.executor_threads": 4}).level == "INFO"
    assert messages({"scripts.scripts_dir": "", "server.executor_threads": 2}) == []


def test_a_parameter_that_nothing_reads_says_that_it_has_no_effect() -> None:
    """Told by its name alone: as an attribute, or as a word where names are put together."""
    package = Path(medkit_gateway_py.__file__).parent
    files = [path for path in package.rglob("*.py") if path.parent.name != "parameters"]
    words = set(re.findall(r"[.\"](\w+)", "".join(path.read_text() for path in files)))
    unread = {spec.name for spec in SPECIFICATIONS.values() if spec.name.rsplit(".", 1)[-1] not in words}
    assert unread <= {spec.name for spec in SPECIFICATIONS.values() if spec.status}


# --- whatever is given ----------------------------------------------------------------------------------------

ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=4)
    | st.lists(st.text(max_size=10), max_size=4)
    | st.lists(st.integers(), max_size=3)
    | st.lists(st.booleans() | st.floats(), max_size=3)
)


@given(st.dictionaries(st.sampled_from(list(SPECIFICATIONS)) | st.text(max_size=10), ANYTHING, max_size=12))
def test_check_is_total_and_its_result_needs_no_correction(values: dict[str, object]) -> None:
    checked = check(values)
    assert list(checked.effective) == list(SPECIFICATIONS)
    again = check({**checked.effective, "plugins": checked.effective["plugins"]})
    assert again.effective == checked.effective
    for finding in again.findings:
        assert "must be" not in finding.message
        assert "clamped" not in finding.message
