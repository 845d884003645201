"""The files of a manifest: where they are, what they hold, whether they changed (API.md §12, DECISIONS 19).

Everything here reads the disk: call it in a worker thread. What the texts mean is `entities/manifest_rules.py`'s.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..entities.inventory import MAX_BYTES as MAX_INVENTORY_BYTES
from ..entities.layers import HYBRID, MANIFEST_ONLY, RUNTIME_ONLY
from ..entities.manifest import ADVICE, ERROR, WARNING, Finding, Loaded, Source
from ..entities.manifest_rules import load_manifest
from ..entities.manifest_yaml import MAX_BYTES
from ..parameters import Finding as ParameterFinding

MAX_FRAGMENT_BYTES = 1024 * 1024
MAX_FRAGMENTS = 1000  # a directory that is none of fragments must not be read whole
OWN_PACKAGE = "medkit_gateway_py"
# Files written for the C++ gateway name its package; its examples have the same names here.
_OWN_NAMES = (OWN_PACKAGE, "ros2_medkit_gateway")
_SUBSTITUTION = re.compile(r"\$\(find-pkg-share\s+([A-Za-z0-9_-]+)\s*\)")
_URL = re.compile(r"package://([A-Za-z0-9_-]+)(?=/|$)")

Signature = tuple[tuple[str, int, int, int, int], ...]


class PathProblem(Exception):
    """A path names a package that cannot be found; the text says which."""


@dataclass(frozen=True)
class ManifestFiles:
    """The paths as the parameters have them; "" where there is none."""

    manifest: str
    fragments_dir: str = ""
    inventory: str = ""
    strict: bool = True

    def load(self) -> Loaded:
        """Read and judge all of them. Never raises."""
        found: list[Finding] = []
        if not self.manifest:
            return Loaded(None, (_finding("M001", ERROR, "", "discovery.manifest_path is empty"),))
        main = self._read(self.manifest, MAX_BYTES, found)
        fragments = list(self._fragments(found))
        inventory = None
        if self.inventory:
            inventory = self._inventory(found)
        if main is None:
            return Loaded(None, tuple(found))
        return load_manifest(main, fragments, inventory, strict=self.strict, found=found)

    def signature(self) -> Signature:
        """Something that differs after every change of a file or of its rights: name, times, size and inode of each."""
        found: list[tuple[str, int, int, int, int]] = []
        for path in self._watched():
            try:
                about = os.stat(path)
            except OSError:
                found.append((path, 0, 0, 0, 0))
            else:
                found.append((path, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino))
        return tuple(found)

    def _watched(self) -> Iterator[str]:
        for text in (self.manifest, self.inventory, self.fragments_dir):
            if text:
                try:
                    yield str(resolve(text))
                except PathProblem:
                    yield text
        if self.fragments_dir:
            try:
                yield from (str(path) for path in _fragment_paths(resolve(self.fragments_dir)))
            except (PathProblem, OSError):
                return

    def _read(self, text: str, limit: int, found: list[Finding]) -> Source | None:
        try:
            path = resolve(text)
            return Source(str(path), read_text(path, limit))
        except (PathProblem, OSError, ValueError) as error:
            found.append(_finding("M001", ERROR, text, _reason(error)))
            return None

    def _inventory(self, found: list[Finding]) -> Source | None:
        try:
            path = resolve(self.inventory)
            return Source(str(path), read_text(path, MAX_INVENTORY_BYTES))
        except (PathProblem, OSError) as error:
            found.append(_finding("M022", ADVICE, self.inventory, f"{_reason(error)}; no inventory is used"))
        except ValueError as error:
            found.append(_finding("M020", ERROR, self.inventory, str(error)))
        return None

    def _fragments(self, found: list[Finding]) -> Iterator[Source]:
        if not self.fragments_dir:
            return
        try:
            folder = resolve(self.fragments_dir)
            paths = _fragment_paths(folder)
        except (PathProblem, OSError) as error:
            found.append(_finding("M001", ERROR, self.fragments_dir, _reason(error)))
            return
        if len(paths) > MAX_FRAGMENTS:
            found.append(_finding("M001", ERROR, self.fragments_dir, f"holds more than {MAX_FRAGMENTS} fragments"))
            return
        inside = folder.resolve()
        for path in paths:
            try:
                if not path.resolve().is_relative_to(inside):
                    raise ValueError("the link leads out of the directory")
                yield Source(str(path), read_text(path, MAX_FRAGMENT_BYTES))
            except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
                found.append(_finding("M001", ERROR, str(path), _reason(error)))


def files_of(config: Any) -> ManifestFiles | None:
    """The files that the parameters under `discovery` name; None when the mode uses none."""
    discovery = config.discovery
    if discovery.mode == RUNTIME_ONLY or (discovery.mode == HYBRID and not discovery.manifest.enabled):
        return None
    return ManifestFiles(
        discovery.manifest_path,
        discovery.manifest.fragments_dir,
        discovery.inventory.csv_path,
        discovery.manifest_strict_validation,
    )


def manifest_findings(config: Any) -> list[ParameterFinding]:
    """What there is to say of the manifest before the gateway is started; reads it."""
    files = files_of(config)
    if files is None:
        return []
    loaded = files.load()
    name, is_refused = "discovery.manifest_path", loaded.manifest is None and config.discovery.mode == MANIFEST_ONLY
    if loaded.manifest is None:
        texts = [f"manifest: {one}" for one in loaded.rejecting]
        return [ParameterFinding("ERROR", name, "", text, is_refused) for text in texts]
    levels = {WARNING: "WARN", ADVICE: "INFO"}
    return [ParameterFinding(levels[one.level], name, "", f"manifest: {one}") for one in loaded.findings]


def resolve(text: str, share_of: Callable[[str], str] | None = None) -> Path:
    """The path of a parameter: `~`, `$(find-pkg-share name)` and `package://name/...` are replaced.

    `share_of` finds the share directory of a package, by default in the ament index; raises LookupError for an unknown
    one. Our own files are found without an index, under the C++ package's name too. Raises PathProblem.
    """
    match = _SUBSTITUTION.search(text) or _URL.match(text)
    if match is None:
        return Path(text).expanduser()
    package = match.group(1)
    rest = text[match.end() :]
    places = []
    try:
        places.append((share_of or ament_share)(package))
    except LookupError:
        pass
    if package in _OWN_NAMES:
        places += [str(share) for share in own_shares()]
    if not places:
        raise PathProblem(f"the package {package} is not found")
    candidates = [Path(text[: match.start()] + place + rest) for place in places]
    return next((path for path in candidates if path.exists()), candidates[0])


def own_shares() -> tuple[Path, ...]:
    """Where our own `config/` may be: a source checkout, a wheel's data files."""
    return (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / OWN_PACKAGE)


def ament_share(package: str) -> str:
    """The share directory of an installed ROS package. Raises LookupError."""
    try:
        from ament_index_python.packages import get_package_share_directory
    except ImportError:
        raise LookupError(package) from None
    try:
        return str(get_package_share_directory(package))
    except (LookupError, OSError, ValueError) as error:  # OSError: no ROS is sourced; ValueError: no name of a package
        raise LookupError(package) from error


def read_text(path: Path, limit: int) -> str:
    """The text of a regular file of at most `limit` bytes. Raises OSError, or ValueError for one that is not usable."""
    # A fifo or a device would never end, and opening one may wait for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"longer than {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not valid UTF-8") from error


def _fragment_paths(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    return [folder / name for name in names[: MAX_FRAGMENTS + 1]]


def _finding(rule: str, level: str, file: str, message: str) -> Finding:
    return Finding(rule, level, file, 0, "", message)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)
