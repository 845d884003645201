"""What each role may do (API.md §9.4, DECISIONS 13): a table of methods and paths, and the question put to it.

Paths are the decoded ones that routes see. In a pattern `*` is one segment, `**` one or more, `{a|b}` one of several.
Whose token it is and which requests need one is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .principal import ROLES, Principal

API = "/api/v1"
_OWN_PAGES = f"{API}/x-medkit/"

_ALL = "{areas|components|apps|functions}"
_BUSY = "{apps|components}"
_WATCHED = "{apps|components|functions}"


@dataclass(frozen=True)
class Permission:
    """The least role that may use a method on paths of a pattern; roles above it may, too."""

    role: str
    method: str
    pattern: str


def _each(role: str, methods: str, *patterns: str) -> Iterator[Permission]:
    for method in methods.split():
        for pattern in patterns:
            yield Permission(role, method, f"{API}{pattern}")


PERMISSIONS: tuple[Permission, ...] = (
    *_each(
        "viewer",
        "GET",
        *("", "/health", "/version-info", "/docs", "/**/docs", "/swagger-ui", "/swagger-ui/*"),
        *(f"/{_ALL}", f"/{_ALL}/*"),
        "/areas/*/{subareas|components|contains}",
        "/components/*/{subcomponents|hosts|depends-on}",
        "/apps/*/{is-located-on|belongs-to|depends-on}",
        "/functions/*/{hosts|x-medkit-graph}",
        *(f"/{_ALL}/*/data", f"/{_ALL}/*/data/**", f"/{_ALL}/*/{{data-categories|data-groups}}"),
        *(f"/{_ALL}/*/operations", f"/{_ALL}/*/operations/**"),
        *(f"/{_ALL}/*/configurations", f"/{_ALL}/*/configurations/**"),
        *("/faults", "/faults/stream", f"/{_ALL}/*/faults", f"/{_ALL}/*/faults/*"),
        *(f"/{_ALL}/*/logs", f"/{_ALL}/*/logs/configuration"),
        *(f"/{_ALL}/*/bulk-data", f"/{_ALL}/*/bulk-data/*", f"/{_ALL}/*/bulk-data/*/*"),
        *(f"/areas/*/subareas/*/bulk-data{rest}" for rest in ("", "/*", "/*/*")),
        *(f"/components/*/subcomponents/*/bulk-data{rest}" for rest in ("", "/*", "/*/*")),
        *(f"/{_ALL}/*/triggers", f"/{_ALL}/*/triggers/*", f"/{_ALL}/*/triggers/*/events"),
        *(f"/{_WATCHED}/*/cyclic-subscriptions{rest}" for rest in ("", "/*", "/*/events")),
        *(f"/{_BUSY}/*/locks", f"/{_BUSY}/*/locks/*"),
        *(f"/{_BUSY}/*/scripts", f"/{_BUSY}/*/scripts/*", f"/{_BUSY}/*/scripts/*/executions/*"),
        *(f"/{_BUSY}/*/status", "/apps/*/fault-triggers"),
        *("/updates", "/updates/*", "/updates/*/status"),
        "/x-medkit/**",
    ),
    Permission("viewer", "GET", "/metrics"),
    *_each("operator", "POST", f"/{_ALL}/*/operations/**/executions"),
    *_each("operator", "PUT DELETE", f"/{_ALL}/*/operations/**/executions/*"),
    *_each("operator", "PUT", f"/{_ALL}/*/data/**"),
    *_each("operator", "DELETE", "/faults", f"/{_ALL}/*/faults", f"/{_ALL}/*/faults/*"),
    *_each("operator", "POST", f"/{_ALL}/*/triggers", f"/{_WATCHED}/*/cyclic-subscriptions", f"/{_BUSY}/*/locks"),
    *_each(
        "operator", "PUT DELETE",
        f"/{_ALL}/*/triggers/*", f"/{_WATCHED}/*/cyclic-subscriptions/*", f"/{_BUSY}/*/locks/*",
    ),
    *_each("operator", "POST", f"/{_BUSY}/*/bulk-data/*", f"/{_BUSY}/*/scripts/*/executions"),
    *_each("operator", "DELETE", f"/{_BUSY}/*/bulk-data/*/*"),
    *_each("operator", "PUT DELETE", f"/{_BUSY}/*/scripts/*/executions/*"),
    *_each("operator", "PUT", f"/{_BUSY}/*/status/{{start|restart|force-restart}}"),
    *_each("configurator", "PUT DELETE", f"/{_ALL}/*/configurations/**"),
    *_each("configurator", "DELETE", f"/{_ALL}/*/configurations"),
    *_each("configurator", "PUT", f"/{_ALL}/*/logs/configuration"),
    *_each("configurator", "POST", f"/{_BUSY}/*/scripts"),
    *_each("configurator", "DELETE", f"/{_BUSY}/*/scripts/*"),
    *_each("configurator", "POST", "/updates"),
    *_each("configurator", "PUT", "/updates/*/{prepare|execute|automated}"),
    *_each("configurator", "DELETE", "/updates/*"),
    *_each("configurator", "PUT", f"/{_BUSY}/*/status/{{shutdown|force-shutdown}}"),
    *_each("admin", "GET POST PUT DELETE", "", "/**"),
)  # fmt: skip


def allowed(principal: Principal, method: str, path: str) -> bool:
    """Whether this client may use `method` on the decoded `path`."""
    if principal.is_peer and method == "GET" and path.startswith(_OWN_PAGES) and not _climbs(path):
        return True
    needed = required_role(method, path)
    return needed is not None and ROLES.index(principal.role) >= ROLES.index(needed)


def required_role(method: str, path: str) -> str | None:
    """The least role that may use `method` on the decoded `path`; None when none may.

    A path with `.` or `..` segments takes an admin: no id has such a part, and a proxy on the way to another gateway
    may read it as another path than we do.
    """
    for role in ROLES if not _climbs(path) else ROLES[-1:]:
        found = _COMPILED.get((role, method))
        if found is not None and found.fullmatch(path):
            return role
    return None


def _climbs(path: str) -> bool:
    return "/." in path and any(part in (".", "..") for part in path.split("/"))


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*|{[^}]*})", pattern)
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if part == "**":
        return ".+"
    if part == "*":
        return "[^/]+"
    if part.startswith("{"):
        return "(?:" + "|".join(re.escape(one) for one in part[1:-1].split("|")) + ")"
    return re.escape(part)


def _compile(permissions: Iterable[Permission]) -> dict[tuple[str, str], re.Pattern[str]]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in permissions:
        grouped.setdefault((one.role, one.method), []).append(_expression(one.pattern))
    return {key: re.compile("|".join(patterns), re.DOTALL) for key, patterns in grouped.items()}


_COMPILED = _compile(PERMISSIONS)
