"""The options that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", "-u", envvar="MEDKIT_URL", help="The gateway to ask.")]
Token = Annotated[
    str, typer.Option(envvar="MEDKIT_TOKEN", help="Access token; better in the environment than in a history.")
]
CaFile = Annotated[str, typer.Option(envvar="MEDKIT_CA_FILE", help="PEM file of the CA that signed its certificate.")]
Timeout = Annotated[float, typer.Option(min=0.1, max=600.0, help="Seconds to wait for an answer.")]
AsJson = Annotated[bool | None, typer.Option("--json/--text", help="Instead of deciding by the terminal.")]

DEFAULT_URL = "http://127.0.0.1:8080"
COLLECTIONS = ("areas", "components", "apps", "functions")
