"""`medkit manifest check` and `medkit manifest export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .export import manifest_of, to_yaml
from .gateway import FINDINGS, USAGE, Address, CommandFailed, Gateway
from .options import COLLECTIONS, DEFAULT_URL, AsJson, CaFile, Timeout, Token, Url
from .output import Output, medkit_of

manifest = typer.Typer(help="Check and write manifests.", no_args_is_help=True, rich_markup_mode=None)


@manifest.command("check")
def manifest_check(
    file: Annotated[Path, typer.Argument(help="The manifest.")],
    fragments: Annotated[Path | None, typer.Option(help="Directory of fragments that belong to it.")] = None,
    inventory: Annotated[Path | None, typer.Option(help="CSV file of the inventory.")] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Warnings do not reject it.")] = False,
    json: AsJson = None,
) -> None:
    """Say what is wrong with a manifest, with file, line and path. Exit code 1 when a gateway would reject it."""
    from ..discovery.manifest_files import ManifestFiles

    output = Output(json)
    files = ManifestFiles(str(file), str(fragments or ""), str(inventory or ""), not lenient)
    loaded = files.load()
    counts = {} if loaded.manifest is None else {name: len(getattr(loaded.manifest, name)) for name in COLLECTIONS}
    if output.as_json:
        output.json({"usable": loaded.manifest is not None, "entities": counts, "findings": findings_of(loaded)})
    else:
        columns = ("", "rule", "where", "found")
        rows = [(one.level, one.rule, f"{one.file}:{one.line} {one.path}", one.message) for one in loaded.findings]
        output.table("", columns, rows, "Nothing to say.")
        if counts:
            output.line(", ".join(f"{count} {name}" for name, count in counts.items()), "green")
        else:
            output.line("A gateway would not use this manifest.", "red")
    if loaded.manifest is None:
        raise typer.Exit(FINDINGS)


@manifest.command("export")
def manifest_export(
    file: Annotated[Path | None, typer.Option("--output", "-o", help="Write here; must not exist yet.")] = None,
    url: Url = DEFAULT_URL, token: Token = "", ca_file: CaFile = "", timeout: Timeout = 10.0,
) -> None:  # fmt: skip
    """Write a manifest of what the gateway lists now, as YAML."""
    with Gateway(Address(url, token, ca_file, timeout)) as gateway:
        # Each gateway has its own manifest: what peers have is in theirs.
        own = {name: [item for item in gateway.items(f"/{name}") if not _is_remote(item)] for name in COLLECTIONS}
        apps = {str(item["id"]) for item in own["apps"]}
        hosts = {
            str(item["id"]): [
                str(app["id"]) for app in gateway.items(f"/functions/{item['id']}/hosts") if app["id"] in apps
            ]
            for item in own["functions"]
        }
        details = {
            name: [gateway.get(f"/{name}/{item['id']}") for item in own[name]]
            for name in ("areas", "components", "apps")
        }
    text = to_yaml(manifest_of(details["areas"], details["components"], details["apps"], own["functions"], hosts))
    if file is None:
        print(text, end="")
        return
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(text)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror or error}", USAGE) from None


def _is_remote(item: dict[str, Any]) -> bool:
    source = medkit_of(item).get("source") or item.get("source")
    return isinstance(source, str) and source.startswith("peer:")


def findings_of(loaded: Any) -> list[dict[str, Any]]:
    """What is to be said of a manifest, as JSON."""
    return [
        {
            "level": one.level,
            "rule": one.rule,
            "file": one.file,
            "line": one.line,
            "path": one.path,
            "message": one.message,
        }
        for one in loaded.findings
    ]
