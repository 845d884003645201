"""One row of the route table, and how rows of all kinds of entity are made of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..entities.model import Kind

# Placeholders that match several segments (API.md §1.1).
GREEDY = frozenset({"data_id", "config_id", "operation_id"})

TAGS = (
    "Server", "Discovery", "Data", "Operations", "Configuration", "Faults", "Logs", "Bulk Data", "Subscriptions",
    "Triggers", "FaultTriggers", "Locking", "Scripts", "Updates", "Lifecycle", "Authentication", "Federation",
)  # fmt: skip

NOT_YET = "Not implemented in this version of the gateway"
NO_LOCKS = "Locking is not enabled on this gateway"
NO_SCRIPTS = "Scripts backend not configured"
NO_UPDATES = "Software updates not available"
NO_LIFECYCLE = "Lifecycle control not available for this entity"


@dataclass(frozen=True)
class Row:
    """One operation.

    * `template`: relative to `/api/v1`, with the placeholder names of the contract.
    * `operation_id`: "" keeps a route out of the document and out of the root's `endpoints`.
    * `response`, `body`: names of models. No `response`: an empty answer, or an event stream when `stream`; `FILE` is
      bytes. `also`: more good answers, status and model; `errors`: bad ones that only it has. `needs_body`: whether a
      request without one is refused.
    * `serve`: the key of its handler in `routes/`.
    * `query`: names of query parameters; `openapi.py` describes them. `client_id`: takes `X-Client-Id`.
    * `message`: what a 501 says; `checks_entity`: whether it looks for the entity first.
    """

    method: str
    template: str
    operation_id: str = ""
    summary: str = ""
    response: str = ""
    status: int = 200
    body: str = ""
    serve: str = "later"
    tag: str = "Server"
    kind: Kind | None = None
    query: tuple[str, ...] = ()
    also: tuple[tuple[int, str], ...] = ()
    errors: tuple[int, ...] = ()
    client_id: bool = False
    stream: bool = False
    etag: bool = False
    message: str = NOT_YET
    checks_entity: bool = True
    needs_body: bool = True

    @property
    def path(self) -> str:
        """The template as the router takes it: placeholders that match several segments are marked."""
        path = self.template
        for name in GREEDY:
            path = path.replace(f"{{{name}}}", f"{{{name}:path}}")
        return path


ALL = tuple(Kind)
# The `response` of a download.
FILE = "file"

BUSY = (Kind.APP, Kind.COMPONENT)


def server(tag: str, *rows: Row) -> Iterator[Row]:
    """Rows that belong to no entity."""
    for row in rows:
        yield replace(row, tag=tag, checks_entity=False)


def each(kinds: Sequence[Kind], tag: str, *rows: Row) -> Iterator[Row]:
    """Rows of entities, once for each kind: `<K>` becomes `App`, `<k>` `app`, and the template follows the entity's."""
    for kind in kinds:
        for row in rows:
            yield replace(
                row,
                tag=tag,
                kind=kind,
                template=f"/{kind.value}/{{{kind.type}_id}}{row.template}",
                operation_id=row.operation_id.replace("<K>", kind.label),
                summary=row.summary.replace("<k>", kind.type),
                response=row.response.replace("<K>", kind.label),
            )


def relations(kind: Kind, *names: tuple[str, str, str]) -> Iterator[Row]:
    """Relation collections: name, operation id, model."""
    rows = (Row("GET", f"/{name}", of, f"{name} of one <k>", model, serve="snapshot") for name, of, model in names)
    yield from (replace(row, etag=True) for row in each((kind,), "Discovery", *rows))


def collections() -> Iterator[Row]:
    """The four lists."""
    for kind in (Kind.APP, Kind.COMPONENT, Kind.FUNCTION, Kind.AREA):
        name = kind.label
        row = Row(
            "GET", f"/{kind.value}", f"list{name}s", f"All {kind.value}", f"{name}List", serve="snapshot",
            query=("peer", "origin", "available"),
        )  # fmt: skip
        yield replace(row, tag="Discovery", kind=kind, etag=True)


def lock(
    method: str, template: str, name: str, summary: str, response: str = "", status: int = 200, body: str = ""
) -> Row:
    """A route of locks; whoever changes one must say who it is (API.md §10.2)."""
    row = Row(method, template, name, summary, response, status, body, message=NO_LOCKS, checks_entity=False)
    return replace(row, client_id=method != "GET")


def script(
    method: str, template: str, name: str, summary: str, response: str = "", status: int = 200, body: str = ""
) -> Row:
    """A route of scripts; without a backend it looks at nothing (API.md §10.6)."""
    return Row(method, template, name, summary, response, status, body, message=NO_SCRIPTS, checks_entity=False)


def update(
    method: str, template: str, name: str, summary: str, response: str = "", status: int = 200, body: str = ""
) -> Row:
    """A route of updates."""
    return Row(method, template, name, summary, response, status, body, message=NO_UPDATES)
