"""Parameter files and command lines: what the gateway's node gets from them, compared with what rclpy itself finds.

The YAML below is that of the multi-instance tutorial and of the aggregation reference, as users have it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.parameters import StaticPeer, check
from medkit_gateway_py.parameters.files import (
    ParameterFileError,
    alias_overrides,
    node_fqn,
    read_overrides,
    ros_arguments,
)
from medkit_gateway_py.parameters.yaml_files import read_sections, scalar

GATEWAY_A = """\
ros2_medkit_gateway:
  ros__parameters:
    server:
      port: 8080
    aggregation:
      enabled: true
      peer_urls: ["http://localhost:8081"]
      peer_names: ["subsystem_b"]
"""
GATEWAY_A_MDNS = """\
ros2_medkit_gateway:
  ros__parameters:
    server:
      port: 8080
    aggregation:
      enabled: true
      announce: true
      discover: true
      mdns_name: "gateway_a"
"""
GATEWAY_B_CHAIN = """\
ros2_medkit_gateway:
  ros__parameters:
    server:
      port: 8081
    aggregation:
      enabled: true
      peer_urls: ["http://localhost:8082"]
      peer_names: ["leaf_system"]
"""
GATEWAY_C_CHAIN = """\
ros2_medkit_gateway:
  ros__parameters:
    server:
      port: 8082
    aggregation:
      enabled: false
"""
STAR = """\
# Primary gateway (host-A, port 8080)
ros2_medkit_gateway:
  ros__parameters:
    aggregation:
      enabled: true
      timeout_ms: 3000
      announce: false
      discover: false  # Use static peers only
      peer_urls: ["http://192.168.1.10:8080", "http://192.168.1.11:8080", "http://192.168.1.12:8080"]
      peer_names: ["arm_controller", "base_platform", "sensor_array"]
"""
SECURE = """\
ros2_medkit_gateway:
  ros__parameters:
    server:
      tls:
        enabled: true
        cert_file: "/etc/ros2_medkit/certs/cert.pem"
        key_file: "/etc/ros2_medkit/certs/key.pem"
    aggregation:
      enabled: true
      forward_auth: true          # All peers share JWT config
      require_tls: true           # Reject any http:// peers
      peer_scheme: "https"        # mDNS-discovered peers use HTTPS
      announce: true
      discover: true
      peer_urls: ["https://gateway-b:8080"]
      peer_names: ["subsystem_b"]
"""
# The tutorial's quick start on the command line.
QUICK_START = [
    "--ros-args",
    "-p",
    "aggregation.enabled:=true",
    "-p",
    "aggregation.peer_urls:=['http://192.168.1.10:8080']",
    "-p",
    "aggregation.peer_names:=['peer_b']",
]

RENAMED = ["-r", "__node:=gateway_a", "-r", "__ns:=/subsystem_a"]
FQN = "/subsystem_a/gateway_a"


class Files:
    """Files by name, readable like a disk."""

    def __init__(self, **texts: str) -> None:
        self.texts = {f"{name}.yaml": text for name, text in texts.items()}

    def __call__(self, path: str) -> str:
        return self.texts[path]


def argv(*files: str, more: list[str] | None = None) -> list[str]:
    words = ["--ros-args"]
    for file in files:
        words += ["--params-file", f"{file}.yaml"]
    return [*words, *(RENAMED if more is None else more)]


# --- the texts that users have --------------------------------------------------------------------------------


def test_step_two_of_the_tutorial_reaches_a_renamed_node() -> None:
    values, notes = alias_overrides(argv("gateway_a_params"), FQN, Files(gateway_a_params=GATEWAY_A))
    config = check(values).config
    assert config.server.port == 8080
    assert config.aggregation.peers == (StaticPeer("subsystem_b", "http://localhost:8081"),)
    assert notes == [f"gateway_a_params.yaml, section ros2_medkit_gateway, is used for {FQN}."]


def test_the_chain_of_the_tutorial_and_the_star_of_the_reference() -> None:
    files = Files(b=GATEWAY_B_CHAIN, c=GATEWAY_C_CHAIN, star=STAR, mdns=GATEWAY_A_MDNS)
    b = check(alias_overrides(argv("b"), FQN, files)[0]).config
    assert (b.server.port, b.aggregation.peers) == (8081, (StaticPeer("leaf_system", "http://localhost:8082"),))
    c = check(alias_overrides(argv("c"), FQN, files)[0]).config
    assert (c.server.port, c.aggregation.enabled) == (8082, False)
    star = check(alias_overrides(argv("star"), FQN, files)[0]).config
    assert [peer.name for peer in star.aggregation.peers] == ["arm_controller", "base_platform", "sensor_array"]
    assert star.aggregation.timeout_ms == 3000
    mdns = check(alias_overrides(argv("mdns"), FQN, files)[0])
    assert mdns.config.aggregation.mdns_name == "gateway_a"
    assert not mdns.refused


def test_the_secure_example_is_taken_whole() -> None:
    checked = check(alias_overrides(argv("s"), FQN, Files(s=SECURE))[0])
    assert checked.refused == ()
    assert (checked.config.server.tls.enabled, checked.config.aggregation.require_tls) == (True, True)
    assert checked.config.aggregation.peers == (StaticPeer("subsystem_b", "https://gateway-b:8080"),)


def test_the_quick_start_on_the_command_line() -> None:
    found = read_overrides(QUICK_START, "/medkit_gateway_py")
    assert check(found.values).config.aggregation.peers == (StaticPeer("peer_b", "http://192.168.1.10:8080"),)
    assert set(found.sources.values()) == {"command line"}


# --- which sections -------------------------------------------------------------------------------------------


def section(name: str, **values: Any) -> str:
    lines = "".join(f"    {key}: {value}\n" for key, value in values.items())
    return f"{name}:\n  ros__parameters:\n{lines}"


@pytest.mark.parametrize("name", ["medkit_gateway_py", "/medkit_gateway_py", "ros2_medkit_gateway"])
def test_a_section_with_our_name_is_used_under_any_name(name: str) -> None:
    assert alias_overrides(argv("f"), FQN, Files(f=section(name, a=1)))[0] == {"a": 1}


def test_a_section_in_the_nodes_own_namespace_is_used_and_wins() -> None:
    text = section("medkit_gateway_py", a=1, b=1) + "subsystem_a:\n  medkit_gateway_py:\n    ros__parameters: {a: 2}\n"
    assert alias_overrides(argv("f"), FQN, Files(f=text))[0] == {"a": 2, "b": 1}


@pytest.mark.parametrize("name", ["/subsystem_b/medkit_gateway_py", "other_node", "/subsystem_a/medkit_gateway"])
def test_sections_of_others_are_not_used(name: str) -> None:
    assert alias_overrides(argv("f"), FQN, Files(f=section(name, a=1))) == ({}, [])


def test_what_ros_applies_itself_is_no_alias() -> None:
    text = section("/**", a=1) + section(FQN, b=1) + section("medkit_gateway_py", c=1)
    assert alias_overrides(argv("f"), FQN, Files(f=text))[0] == {"c": 1}
    assert alias_overrides(argv("f", more=[]), "/medkit_gateway_py", Files(f=text)) == ({}, [])


def test_of_several_files_the_later_wins_and_each_is_noted() -> None:
    files = Files(f=section("medkit_gateway_py", a=1, b=1), g=section("medkit_gateway_py", a=2))
    values, notes = alias_overrides(argv("f", "g"), FQN, files)
    assert values == {"a": 2, "b": 1}
    assert len(notes) == 2
    assert alias_overrides(argv("g", "f"), FQN, files)[0] == {"a": 1, "b": 1}


def test_our_name_wins_over_that_of_the_cpp_gateway() -> None:
    text = section("medkit_gateway_py", a=1) + section("ros2_medkit_gateway", a=2, b=2)
    assert alias_overrides(argv("f"), FQN, Files(f=text))[0] == {"a": 1, "b": 2}


def test_full_name_wildcards_and_command_line_win_over_an_alias() -> None:
    alias = section("medkit_gateway_py", a=1, b=1, c=1, d=1)
    files = Files(f=section("/**", a=2) + section(FQN, b=2) + alias)
    found = read_overrides([*argv("f"), "-p", "c:=2"], FQN, files)
    assert found.values == {"a": 2, "b": 2, "c": 2, "d": 1}
    assert found.sources["a"] == "f.yaml, section /**"
    assert found.sources["c"] == "command line"
    assert found.sources["d"] == "f.yaml, section medkit_gateway_py"


# --- the command line -----------------------------------------------------------------------------------------


def test_only_what_stands_between_ros_args_and_two_dashes_counts() -> None:
    words = ["-p", "a:=1", "--ros-args", "-p", "b:=2", "--", "-p", "c:=3", "--ros-args", "--param", "d:=4"]
    assert ros_arguments(words).sources == (("parameter", "b:=2"), ("parameter", "d:=4"))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "/medkit_gateway_py"),
        (["-r", "__node:=g"], "/g"),
        (["--remap", "__name:=g"], "/g"),
        (["-r", "__ns:=/a/b"], "/a/b/medkit_gateway_py"),
        (["-r", "medkit_gateway_py:__node:=g", "-r", "__ns:=/a"], "/a/g"),
        (["-r", "other:__node:=x"], "/medkit_gateway_py"),
        (["-r", "__node:=first", "-r", "__node:=second"], "/first"),
        (["-r", "/chatter:=/talk", "--log-level", "__node:=x"], "/medkit_gateway_py"),
        (["--", "-r", "__node:=g"], "/medkit_gateway_py"),
    ],
)
def test_the_full_name_of_the_node(words: list[str], name: str) -> None:
    assert node_fqn(["--ros-args", *words]) == name


@pytest.mark.parametrize("words", [["--params-file"], ["-p"], ["-p", "a"], ["-p", "a="], ["-p", ":=1"], ["-p", "a:="]])
def test_options_without_what_they_need_are_errors(words: list[str]) -> None:
    with pytest.raises(ParameterFileError):
        read_overrides(["--ros-args", *words], "/g")


def test_a_mistyped_secret_is_not_repeated() -> None:
    with pytest.raises(ParameterFileError) as raised:
        read_overrides(["--ros-args", "-p", "auth.jwt_secret=hunter2"], "/g")
    assert "hunter2" not in str(raised.value)


# --- errors in files ------------------------------------------------------------------------------------------

HEAD = "medkit_gateway_py:\n  ros__parameters:\n"
BROKEN = [
    ("tab", HEAD + "    a: 1\n\tb: 2\n", 4, "a tab stands where YAML wants spaces"),
    ("colon", HEAD + "    a: b: c\n", 3, "not valid YAML"),
    ("bracket", HEAD + "    a: [1, 2\n", None, "not valid YAML"),
    ("no ros__parameters", "medkit_gateway_py:\n  server:\n    port: 1\n", 3, "`port` has a value, but stands above"),
    ("no node name", "ros__parameters:\n  a: 1\n", 1, "needs a node name above it"),
    ("mixed list", HEAD + "    a: [1, two]\n", 3, "`a` mixes int and string"),
    ("mixed numbers", HEAD + "    a:\n      - 1\n      - 2.0\n", 5, "`a` mixes int and double"),
    ("list of lists", HEAD + "    a: [[1], [2]]\n", 3, "`a` is a list of lists"),
    ("nothing", HEAD + "    a:\n", 3, "`a` has no value"),
    ("no parameters", "medkit_gateway_py:\n  ros__parameters:\n", 2, "there must be parameters"),
    ("alias", HEAD + "    a: &x 3\n    b: *x\n", 4, "cannot use YAML aliases"),
    ("top list", "- a\n- b\n", 1, "must begin with a node name"),
    ("top word", "hello\n", 1, "must begin with a node name"),
    ("deep", HEAD + "    " + "{a: " * 80 + "1" + "}" * 80 + "\n", 3, "nested deeper than 64"),
]


@pytest.mark.parametrize(("text", "line", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_file_is_named_with_line_and_reason(text: str, line: int | None, words: str) -> None:
    with pytest.raises(ParameterFileError) as raised:
        alias_overrides(argv("f"), FQN, Files(f=text))
    assert str(raised.value).startswith(f"f.yaml, line {line}: " if line else "f.yaml, line ")
    assert words in str(raised.value)


# rcl takes a lone word for an empty file, and has no limit for nesting.
WE_ALONE_REFUSE = ("top word", "deep")

LOSING = [
    ("plugins twice", "    plugins: [a]\n    plugins:\n      a: {b: 1}\n", "`plugins` is given twice"),
    ("twice", "    a: 1\n    a: 2\n", "`a` is given twice"),
    ("list of mappings", "    a: [{b: 1}]\n", "`a` is a list of mappings"),
]


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in LOSING], ids=[case[0] for case in LOSING])
@pytest.mark.parametrize("name", ["medkit_gateway_py", FQN, '"/**"'])
def test_values_that_ros_would_lose_silently_are_errors(text: str, words: str, name: str) -> None:
    with pytest.raises(ParameterFileError, match=r"f\.yaml, section .*, line") as raised:
        alias_overrides(argv("f"), FQN, Files(f=f"{name}:\n  ros__parameters:\n{text}"))
    assert words in str(raised.value)


def test_they_are_not_our_business_in_sections_of_other_nodes() -> None:
    files = Files(f="other:\n  ros__parameters:\n    a: 1\n    a: [{b: 1}]\n" + section("medkit_gateway_py", a=1))
    assert alias_overrides(argv("f"), FQN, files)[0] == {"a": 1}


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ParameterFileError, match=r"/none\.yaml: No such file or directory"):
        alias_overrides(["--ros-args", "--params-file", str(tmp_path / "none.yaml")], "/g")
    with pytest.raises(ParameterFileError, match="Is a directory"):
        alias_overrides(["--ros-args", "--params-file", str(tmp_path)], "/g")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterFileError, match="not UTF-8"):
        alias_overrides(["--ros-args", "--params-file", str(tmp_path / "binary.yaml")], "/g")


@given(st.text(max_size=80) | st.text(alphabet="ab: \n-[]{}'\"*&!#,?|>\t", max_size=80))
def test_reading_a_file_gives_sections_or_a_readable_error(text: str) -> None:
    said = ""
    try:
        read_sections(text, "f.yaml")
    except ParameterFileError as error:
        said = str(error)
    assert said == "" or said.startswith("f.yaml")


# --- against ROS ----------------------------------------------------------------------------------------------

SCALARS = (
    (
        "y Y yes Yes YES true True TRUE on On ON n N no No NO off Off OFF false False FALSE tRUE yEs t "
        "1 -1 +1 0 00 010 08 0x10 0X1f 0o10 0b1 1_000 9223372036854775807 9223372036854775808 -9223372036854775808 "
        "1.5 1. .5 -1.5 +1.5 1e3 1E-3 1.5e+3 1e400 .nan .NaN .NAN nan NAN .inf -.inf +.inf .Inf .INF inf Infinity "
        "1:30 2020-01-01 = << null ~ '1' \"true\" !!str&5 !!int&7 hello http://x:80/a"
    )
    .replace("&", "\N{NO-BREAK SPACE}")
    .split(" ")
)
SCALARS = [text.replace("\N{NO-BREAK SPACE}", " ") for text in SCALARS]


class RealNode:
    """What rclpy finds for a node with this command line; a context of its own for each."""

    def overrides(self, words: list[str]) -> tuple[str, dict[str, Any]]:
        import rclpy
        from rclpy.context import Context
        from rclpy.node import Node

        context = Context()
        rclpy.init(args=["gateway_node", *words], context=context)
        try:
            node = Node("medkit_gateway_py", context=context, enable_rosout=False, start_parameter_services=False)
            try:
                found = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
                return node.get_fully_qualified_name(), found
            finally:
                node.destroy_node()
        finally:
            rclpy.shutdown(context=context)


@pytest.fixture
def real() -> RealNode:
    return RealNode()


def plain(value: Any) -> Any:
    """NaN made comparable, arrays made lists."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return value if value is None or isinstance(value, (bool, int, float, str)) else list(value)


@pytest.mark.ros
def test_values_have_the_types_that_ros_gives_them(tmp_path: Path, real: RealNode) -> None:
    lines = [f"    k{index}: {text}" for index, text in enumerate(SCALARS)]
    lines += [
        "    l0: [1, 2]",
        "    l1: ['a', b]",
        "    l2: [yes, off]",
        "    l3: [.5, 1e3]",
        "    l4: []",
        "    l5: ['']",
    ]
    file = tmp_path / "f.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n" + "\n".join(lines) + "\n    block: |\n      5\n    folded: >-\n      5\n"
    )
    words = ["--ros-args", "--params-file", str(file)]
    _, expected = real.overrides(words)
    ours = read_overrides(words, "/medkit_gateway_py").values
    assert {name: plain(value) for name, value in ours.items()} == {n: plain(v) for n, v in expected.items()}
    for name, value in expected.items():
        if isinstance(value, (bool, int, float, str)):
            assert type(ours[name]) is type(value), name


@pytest.mark.ros
@pytest.mark.parametrize(
    "order",
    [
        ["full", "p"], ["p", "full"], ["star", "p"], ["p", "star"], ["full", "star"], ["star", "full"],
        ["full", "star", "full2"], ["one", "star"], ["star", "one"], ["full", "one"], ["ns", "full"], ["any", "ns"],
        ["star", "full", "p"], ["for_node"], ["alias"], ["alias", "p"], ["nested", "star"],
    ],
    ids="-".join,
)  # fmt: skip
def test_the_order_in_which_sections_win_is_that_of_ros(order: list[str], tmp_path: Path, real: RealNode) -> None:
    names = {
        "full": FQN,
        "full2": FQN,
        "star": "/**",
        "one": "/*/gateway_a",
        "ns": "/subsystem_a/**",
        "any": "/**/gateway_a",
    }
    words = ["--ros-args", *RENAMED]
    for index, step in enumerate(order):
        if step == "p":
            words += ["-p", f"a:={index}", "-p", f"p{index}:=[v, w]"]
        elif step == "for_node":
            words += ["-p", f"gateway_a:a:={index}", "-p", f"other:b:={index}"]
        else:
            file = tmp_path / f"{step}.yaml"
            if step == "nested":
                file.write_text("subsystem_a:\n  gateway_a:\n    ros__parameters: {a: 9, d.e: {f: 1}}\n")
            else:
                file.write_text(section(names.get(step, "medkit_gateway_py"), a=index, **{f"only{index}": "true"}))
            words += ["--params-file", str(file)]
    fqn, expected = real.overrides(words)
    assert fqn == FQN == node_fqn(words)
    aliased, _ = alias_overrides(words, fqn)
    assert read_overrides(words, fqn).values == {**aliased, **expected}


@pytest.mark.ros
def test_a_renamed_node_gets_port_and_peers_and_real_names_win(tmp_path: Path, real: RealNode) -> None:
    file = tmp_path / "gateway_a_params.yaml"
    file.write_text(GATEWAY_A)
    words = ["--ros-args", "--params-file", str(file), *RENAMED]
    fqn, direct = real.overrides(words)
    assert direct == {}, "ROS alone drops the section"
    config = check({**alias_overrides(words, fqn)[0], **direct}).config
    assert config.server.port == 8080
    assert config.aggregation.peers == (StaticPeer("subsystem_b", "http://localhost:8081"),)

    for stronger in ("/**", FQN):
        file.write_text(GATEWAY_A + f"{stronger}:\n  ros__parameters: {{server.port: 9001}}\n")
        fqn, direct = real.overrides(words)
        assert check({**alias_overrides(words, fqn)[0], **direct}).config.server.port == 9001
    file.write_text(GATEWAY_A)
    fqn, direct = real.overrides([*words, "-p", "server.port:=9002"])
    config = check({**alias_overrides(words, fqn)[0], **direct}).config
    assert (config.server.port, len(config.aggregation.peers)) == (9002, 1)


@pytest.mark.ros
@pytest.mark.parametrize("text", [case[1] for case in BROKEN if case[0] not in WE_ALONE_REFUSE])
def test_ros_refuses_what_we_refuse(text: str, tmp_path: Path, real: RealNode) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(Exception, match=r"params file|YAML|ros__parameters"):
        real.overrides(["--ros-args", "--params-file", str(file)])


def test_scalars_that_only_look_like_numbers() -> None:
    assert scalar("5", quoted=True) == "5"
    assert scalar("1e400") == "1e400"
    assert scalar("") == ""
