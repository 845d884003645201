"""`medkit`: the commands and their options. What they show is made in the modules beside this one.

    medkit tree --url http://robot1:8080
    medkit faults --follow | jq .fault.fault_code

Exit codes: 0 all well, 1 something was found (faults, an offline peer, a doctor's problem), 2 wrong usage, 3 no gateway
answers, 4 not allowed, 5 the gateway's answer cannot be used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .doctor import PROBLEM, as_json, examine, shell_sight
from .gateway import FINDINGS, USAGE, Address, CommandFailed, Gateway
from .manifests import manifest
from .options import COLLECTIONS, DEFAULT_URL, AsJson, CaFile, Timeout, Token, Url
from .output import Output, clean, medkit_of, partial_note

app = typer.Typer(
    name="medkit",
    help="Look at ROS 2 robots through their gateways. Tables on a terminal, JSON in a pipe.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(manifest, name="manifest")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except CommandFailed as error:
        Output(False).error(str(error))
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read the pipe has had enough. Python would complain once more when it flushes.
        sys.stdout = None
        return 0
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        show = getattr(error, "show", None)
        if show is not None:
            show()
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"medkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="server.port")] = 0,
    host: Annotated[str, typer.Option(help="server.host")] = "",
    peer: Annotated[list[str] | None, typer.Option(help="NAME=URL of a gateway to aggregate; repeat it.")] = None,
    params_file: Annotated[Path | None, typer.Option(help="A ROS parameter file.")] = None,
) -> None:
    """Run a gateway here, until it is interrupted. What follows `--ros-args` goes to ROS."""
    from ..gateway_node import main as gateway_main

    extra = list(context.args)
    split = extra.index("--ros-args") if "--ros-args" in extra else len(extra)
    own, given = extra[:split], extra[split + 1 :]
    ros: list[str] = ["--params-file", str(params_file)] if params_file else []
    ros += ["-p", f"server.port:={port}"] if port else []
    ros += ["-p", f"server.host:={host}"] if host else []
    if peer:
        pairs = [one.partition("=") for one in peer]
        wrong = [f"{name}{mark}{url}" for name, mark, url in pairs if not (name and mark and url)]
        if wrong:
            raise CommandFailed(f"--peer {wrong[0]} is not of the form NAME=URL", USAGE)
        names, urls = dumps([name for name, _, _ in pairs]), dumps([url for _, _, url in pairs])
        ros += ["-p", "aggregation.enabled:=true"]
        ros += ["-p", f"aggregation.peer_names:={names}", "-p", f"aggregation.peer_urls:={urls}"]
    raise typer.Exit(gateway_main([*own, "--ros-args", *ros, *given]))


@app.command()
def tree(
    url: Url = DEFAULT_URL, token: Token = "", ca_file: CaFile = "", timeout: Timeout = 10.0, json: AsJson = None
) -> None:
    """What exists: areas, components, apps and functions."""
    output = Output(json)
    with Gateway(Address(url, token, ca_file, timeout)) as gateway:
        found = {name: gateway.items(f"/{name}") for name in COLLECTIONS}
    if output.as_json:
        output.json(found)
        return
    for name in COLLECTIONS:
        rows = [
            (item.get("id"), item.get("name"), medkit_of(item).get("source") or item.get("source"), _place(item))
            for item in found[name]
        ]
        output.table(name.capitalize(), ("id", "name", "source", "where"), rows, f"No {name}.")


def _place(item: dict[str, Any]) -> str:
    medkit = medkit_of(item)
    ros2 = medkit.get("ros2")
    node = ros2.get("node") if isinstance(ros2, dict) else ""
    online = medkit.get("is_online")
    words = [str(node or ""), str(medkit.get("component_id") or ""), "offline" if online is False else ""]
    return ", ".join(word for word in words if word)


@app.command()
def peers(
    url: Url = DEFAULT_URL, token: Token = "", ca_file: CaFile = "", timeout: Timeout = 10.0, json: AsJson = None
) -> None:
    """The gateways that this one aggregates. Exit code 1 when one is offline."""
    output = Output(json)
    with Gateway(Address(url, token, ca_file, timeout)) as gateway:
        found = gateway.items("/x-medkit/peers")
    if output.as_json:
        output.json({"items": found})
    else:
        rows = [
            (
                peer.get("name"), peer.get("url"), peer.get("status"), peer.get("version"), peer.get("rtt_ms"),
                _counts(peer), peer.get("last_error"),
            )
            for peer in found
        ]  # fmt: skip
        columns = ("name", "url", "status", "version", "rtt ms", "apps", "last error")
        output.table("Peers", columns, rows, "This gateway has no peers.")
    if any(peer.get("status") != "online" for peer in found):
        raise typer.Exit(FINDINGS)


def _counts(peer: dict[str, Any]) -> object:
    counts = peer.get("counts")
    return counts.get("apps") if isinstance(counts, dict) else ""


@app.command()
def faults(
    entity: Annotated[str, typer.Argument(help="Of one entity only, as in apps/lidar. Default: of all.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show changes as they come.")] = False,
    status: Annotated[str, typer.Option(help="pending, confirmed, healed, cleared or all.")] = "",
    url: Url = DEFAULT_URL, token: Token = "", ca_file: CaFile = "", timeout: Timeout = 10.0, json: AsJson = None,
) -> None:  # fmt: skip
    """Faults. Exit code 1 when there are any, so that a script can wait for a clean robot."""
    output = Output(json)
    if follow and (entity or status):
        raise CommandFailed("--follow shows all changes of all entities: leave out the entity and --status", USAGE)
    with Gateway(Address(url, token, ca_file, timeout)) as gateway:
        if follow:
            _follow(gateway, output)
            return
        kind, _, name = entity.strip("/").partition("/")
        if entity and (kind not in COLLECTIONS or not name or "/" in name):
            raise CommandFailed(f"{entity!r} is no entity: write it as in apps/lidar", USAGE)
        body = gateway.get(f"/{kind}/{name}/faults" if entity else "/faults", status=status)
    found = [item for item in body.get("items", []) if isinstance(item, dict)]
    if output.as_json:
        output.json(body)
    else:
        columns = ("code", "severity", "status", "count", "last occurred", "reported by", "description")
        output.table("Faults", columns, [_fault_row(item) for item in found], "No faults.")
        note = partial_note(body.get("x-medkit"))
        if note:
            output.warn(note)
    if found:
        raise typer.Exit(FINDINGS)


def _fault_row(item: dict[str, Any]) -> tuple[object, ...]:
    sources = item.get("reporting_sources")
    shown = ", ".join(str(one) for one in sources) if isinstance(sources, list) else ""
    return (
        item.get("fault_code"), item.get("severity_label"), item.get("status"), item.get("occurrence_count"),
        _clock_time(item.get("last_occurred")), shown, item.get("description"),
    )  # fmt: skip


def _clock_time(stamp: object) -> str:
    """A time as this machine's wall clock shows it."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, float)):
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
    except (OverflowError, ValueError, OSError):
        return str(stamp)


def _follow(gateway: Gateway, output: Output) -> None:
    try:
        for number, name, body in gateway.events("/faults/stream"):
            if output.as_json:
                output.json_line({"id": number, "event": name, **body})
                continue
            fault = body.get("fault")
            if not isinstance(fault, dict):
                output.line(f"{name}: {body}", "yellow")
                continue
            row = [clean(cell) for cell in _fault_row(fault)]
            style = {"fault_confirmed": "red", "fault_cleared": "green"}.get(name, "")
            stamp = _clock_time(body.get("timestamp"))
            output.line(f"{stamp} {name:16} {row[0]} {row[1]} {row[2]} {row[5]}: {row[6]}", style)
    except KeyboardInterrupt:
        return
    output.warn("the gateway ended the stream")


@app.command()
def doctor(
    node: Annotated[str, typer.Option(help="A node that is missing, as in /lidar/driver.")] = "",
    topic: Annotated[str, typer.Option(help="A topic that is missing or has no values.")] = "",
    peer: Annotated[str, typer.Option(help="A peer whose entities are missing.")] = "",
    origin: Annotated[str, typer.Option(help="The origin of a web page that gets no answers.")] = "",
    graph: Annotated[bool, typer.Option(help="Compare with what the ROS 2 of this shell sees.")] = True,
    url: Url = DEFAULT_URL, token: Token = "", ca_file: CaFile = "", timeout: Timeout = 10.0, json: AsJson = None,
) -> None:  # fmt: skip
    """Why something is missing: settings, ports, peers, CORS, clocks. Exit code 1 when there is a problem."""
    output = Output(json)
    with Gateway(Address(url, token, ca_file, timeout)) as gateway:
        sight = shell_sight if graph else lambda _seconds: None
        found = examine(gateway, time.time, sight, node=node, topic=topic, peer=peer, origin=origin)
    if output.as_json:
        output.json(as_json(found))
    else:
        rows = [(one.level, one.subject, f"{one.message}{chr(10) if one.advice else ''}{one.advice}") for one in found]
        output.table("", ("", "what", "found"), rows, "Nothing to say.")
    if any(one.level == PROBLEM for one in found):
        raise typer.Exit(FINDINGS)


if __name__ == "__main__":
    sys.exit(main())
