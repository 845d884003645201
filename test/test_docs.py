"""The documentation against what it documents: routes, parameters, entry points, commands, files, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from medkit_gateway_py.api.route_table import ROWS
from medkit_gateway_py.parameters import REMOVED, SPECIFICATIONS
from support.setup_file import setup_arguments

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
WRITTEN_BY_HAND = [page for page in PAGES if page.name != "configuration.md"]

ENTITY = re.compile(r"^/(areas|components|apps|functions)/\{(area|component|app|function)_id\}")


def documented_routes(title: str) -> set[tuple[str, str]]:
    """(method, path) of every row of the table below a heading of http-api.md."""
    text = (DOCS / "http-api.md").read_text()
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z, ]+) \| `([^`]+)` \|", section, re.MULTILINE)
    assert rows, f"no table below {title!r}"
    return {(method.strip(), path) for methods, path in rows for method in methods.split(",")}


def real_routes(later: bool) -> set[tuple[str, str]]:
    """(method, path) of the route table, the four kinds of entity as one."""
    found = set()
    for row in ROWS:
        path = ENTITY.sub("/{collection}/{id}", row.template) or "/"
        path = re.sub(r"^/(areas|components|apps|functions)$", "/{collection}", path).replace("{path:path}", "{path}")
        if (row.serve == "later") == later:
            found.add((row.method, path))
    return found


def test_every_route_that_is_served_is_documented_and_no_other() -> None:
    assert documented_routes("What is served") == real_routes(later=False) - real_routes(later=True)


def test_every_route_that_answers_501_is_documented_and_no_other() -> None:
    assert documented_routes("What answers 501") == real_routes(later=True)


def test_every_parameter_is_on_the_configuration_page() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert [name for name in SPECIFICATIONS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: page.name)
def test_every_parameter_that_a_page_names_exists(page: Path) -> None:
    groups = {name.partition(".")[0] for name in SPECIFICATIONS if "." in name}
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", page.read_text()))
    named |= set(re.findall(r"-p ([a-z_.]+):=", page.read_text()))
    if page.name == "migration.md":
        assert set(REMOVED) <= named
        named -= set(REMOVED)
    wrong = {name for name in named if name.partition(".")[0] in groups and name not in SPECIFICATIONS}
    # A group may be named as a whole, `cors.*`, and files are no parameters.
    assert {name for name in wrong if not name.endswith((".md", ".py", ".yaml", ".toml", ".db"))} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parameter_files_that_a_page_shows_hold_real_parameters(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        if "ros__parameters" not in block and page.name in ("manifest.md", "migration.md"):
            continue  # a manifest: test_manifest_docs.py
        for name, section in yaml.safe_load(block).items():
            assert name in ("medkit_gateway_py", "ros2_medkit_gateway", "/**"), (page.name, name)
            # Those of plugins are the plugins' own.
            names = {name for name in flat(section["ros__parameters"]) if not name.startswith("plugins.")}
            assert names <= set(SPECIFICATIONS), page.name


def flat(values: dict[str, object], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return names


def entry_points() -> dict[str, list[str]]:
    """Group to names."""
    groups = setup_arguments()["entry_points"]
    return {group: [line.split("=")[0].strip() for line in lines] for group, lines in groups.items()}


def test_every_entry_point_and_executable_is_on_the_architecture_page() -> None:
    text = (DOCS / "architecture.md").read_text()
    for group, names in entry_points().items():
        assert group == "console_scripts" or f"`{group}`" in text, group
        assert [name for name in names if f"`{name}`" not in text] == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    class Loader(yaml.SafeLoader):
        """mkdocs has tags of its own."""

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    navigation = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]

    def files(entries: list[object]) -> list[str]:
        found: list[str] = []
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                found += files(value) if isinstance(value, list) else [str(value)]
        return found

    assert sorted(files(navigation)) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_scripts_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    named = set(
        re.findall(r"(?<![\w/~])\.?/?((?:scripts|test|config|launch|docker|medkit_gateway_py)/[\w./*-]+)", text)
    )
    missing = {name for name in named if not list(ROOT.glob(name.rstrip("./")))}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_need_nothing_from_elsewhere(page: Path) -> None:
    # Robots have no internet: no pictures, scripts or fonts from other hosts.
    assert re.findall(r"!\[[^\]]*\]\(https?:|<(?:script|link|img)[^>]+https?:", page.read_text()) == []


def test_the_readme_says_on_its_first_screen_how_to_try_it() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    for needed in ("./scripts/demo", "./scripts/test", "curl", "swagger-ui", "ros2 run medkit_gateway_py gateway_node"):
        assert needed in screen
