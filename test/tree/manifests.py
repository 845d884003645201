"""Manifests for tests: a good one, and texts made by changing it."""

from __future__ import annotations

from medkit_gateway_py.entities.manifest import Loaded, Manifest, Source
from medkit_gateway_py.entities.manifest_rules import load_manifest

GOOD = """\
manifest_version: "1.0"
areas:
  - id: body
    subareas:
      - {id: door, namespace: /body/door}
  - {id: motor, name: Motor, parent_area: body}
components:
  - {id: ecu, area: motor, type: controller, depends_on: [pump]}
  - {id: pump, area: motor, parent_component_id: ecu, depends_on: [ecu]}
assets:
  - {id: plc, manufacturer: Example, model: X1, serial: "7"}
apps:
  - {id: driver, is_located_on: ecu, ros_binding: {node_name: driver_node, namespace: /motor}}
  - {id: planner, is_located_on: plc, depends_on: [driver], ros_binding: {node_name: planner_node}}
  - {id: cloud, external: true}
functions:
  - {id: drive, hosted_by: [driver, planner], depends_on: [plan]}
  - {id: plan, hosts: [planner]}
scripts:
  - {id: check, path: check.sh, format: sh}
"""


def load(text: str, strict: bool = True, fragments: tuple[str, ...] = (), inventory: str | None = None) -> Loaded:
    """The text as the file `robot.yaml`, fragments as `0.yaml`, ..., the inventory as `assets.csv`."""
    return load_manifest(
        Source("robot.yaml", text),
        [Source(f"{number}.yaml", one) for number, one in enumerate(fragments)],
        None if inventory is None else Source("assets.csv", inventory),
        strict=strict,
    )


def manifest(text: str = "", **options: object) -> Manifest:
    """A manifest that must be good; without its version line."""
    loaded = load(f'manifest_version: "1.0"\n{text}', **options)  # type: ignore[arg-type]
    assert loaded.manifest is not None, [str(one) for one in loaded.findings]
    return loaded.manifest
