"""The files of a manifest: found, read, watched (API.md §12.4, §12.5)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medkit_gateway_py.discovery import manifest_files
from medkit_gateway_py.discovery.manifest_files import ManifestFiles, PathProblem, manifest_findings, resolve
from medkit_gateway_py.entities.manifest import ADVICE, Finding
from medkit_gateway_py.parameters import check

ROOT = Path(__file__).resolve().parent.parent
GOOD = 'manifest_version: "1.0"\napps: [{id: a}]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "robot.yaml").write_text(GOOD)
    (tmp_path / "parts").mkdir()
    return tmp_path


def files(folder: Path, **more: str) -> ManifestFiles:
    return ManifestFiles(str(folder / "robot.yaml"), **more)


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


def test_fragments_are_read_in_the_order_of_their_names(folder: Path) -> None:
    (folder / "parts" / "b.yml").write_text("apps: [{id: c}]")
    (folder / "parts" / "a.yaml").write_text("apps: [{id: b}]")
    (folder / "parts" / "notes.txt").write_text("no manifest")
    loaded = files(folder, fragments_dir=str(folder / "parts")).load()
    assert loaded.manifest is not None
    assert list(loaded.manifest.apps) == ["a", "b", "c"]


def test_a_link_out_of_the_directory_of_fragments_is_refused(folder: Path) -> None:
    (folder / "secret.yaml").write_text("apps: [{id: b}]")
    (folder / "parts" / "x.yaml").symlink_to(folder / "secret.yaml")
    (folder / "parts" / "real.yaml").write_text("")
    finding = only(
        tuple(one for one in files(folder, fragments_dir=str(folder / "parts")).load().rejecting if one.rule == "M001")
    )
    assert "leads out of the directory" in finding.message


def test_fragments_are_bounded_in_size_and_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "parts" / "x.yaml").write_text("#" * (manifest_files.MAX_FRAGMENT_BYTES + 1))
    assert "longer than 1048576" in files(folder, fragments_dir=str(folder / "parts")).load().rejecting[0].message
    monkeypatch.setattr(manifest_files, "MAX_FRAGMENTS", 0)
    assert "more than 0 fragments" in files(folder, fragments_dir=str(folder / "parts")).load().rejecting[0].message


@pytest.mark.parametrize("which", ["manifest", "fragments_dir"])
def test_what_is_not_there_rejects(folder: Path, which: str) -> None:
    finding = only(ManifestFiles(**{"manifest": str(folder / "robot.yaml"), which: "/nowhere"}).load().rejecting)
    assert (finding.rule, finding.file) == ("M001", "/nowhere")
    assert "No such file" in finding.message


def test_an_inventory_that_is_not_there_is_only_said(folder: Path) -> None:
    loaded = files(folder, inventory=str(folder / "none.csv")).load()
    assert loaded.manifest is not None
    assert (only(loaded.findings).rule, only(loaded.findings).level) == ("M022", ADVICE)


def test_an_inventory_is_read(folder: Path) -> None:
    (folder / "assets.csv").write_bytes(b"\xef\xbb\xbfid,model\nlidar,L1\n")
    loaded = files(folder, inventory=str(folder / "assets.csv")).load()
    assert loaded.manifest is not None
    assert loaded.manifest.components["lidar"].name == "L1"


def test_no_path_is_said(folder: Path) -> None:
    assert "manifest_path is empty" in only(ManifestFiles("").load().rejecting).message


def test_a_pipe_or_a_folder_is_no_manifest_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for path in (folder / "pipe", folder):
        assert "not a regular file" in only(ManifestFiles(str(path)).load().rejecting).message


def test_bytes_that_are_no_text_are_said_with_their_line(folder: Path) -> None:
    (folder / "robot.yaml").write_bytes(GOOD.encode() + b"\n\xff")
    assert "line 4 is not valid UTF-8" in only(files(folder).load().rejecting).message


def test_the_signature_tells_every_change(folder: Path) -> None:
    watched = files(folder, fragments_dir=str(folder / "parts"), inventory=str(folder / "assets.csv"))
    seen = [watched.signature()]

    def changed() -> bool:
        seen.append(watched.signature())
        return seen[-1] != seen[-2]

    assert not changed()
    (folder / "parts" / "x.yaml").write_text("apps: []")
    assert changed()
    (folder / "assets.csv").write_text("id\n")
    assert changed()
    # As editors do it: a new file under the old name, of the same length and time.
    about = (folder / "robot.yaml").stat()
    (folder / "new").write_text(GOOD.replace("id: a", "id: b"))
    os.utime(folder / "new", ns=(about.st_atime_ns, about.st_mtime_ns))
    os.replace(folder / "new", folder / "robot.yaml")
    assert changed()
    (folder / "robot.yaml").chmod(0o600)
    assert changed(), "a file that could not be read may be readable now"
    (folder / "robot.yaml").unlink()
    assert changed()
    assert not changed()


EXAMPLE = "config/examples/flat_robot_manifest.yaml"


@pytest.mark.parametrize("package", ["medkit_gateway_py", "ros2_medkit_gateway"])
@pytest.mark.parametrize("form", ["$(find-pkg-share {})/{}", "package://{}/{}", "$(find-pkg-share  {} )/{}"])
def test_our_own_files_are_found_without_an_installed_package(package: str, form: str) -> None:
    def nothing_installed(name: str) -> str:
        raise LookupError(name)

    assert resolve(form.format(package, EXAMPLE), nothing_installed) == ROOT / EXAMPLE


def test_an_installed_package_is_asked_first(tmp_path: Path) -> None:
    assert (
        resolve("$(find-pkg-share my_robot)/m.yaml", lambda name: str(tmp_path / name)) == tmp_path / "my_robot/m.yaml"
    )


def test_an_installed_package_without_the_file_gives_way_to_ours(tmp_path: Path) -> None:
    assert resolve(f"package://ros2_medkit_gateway/{EXAMPLE}", lambda name: str(tmp_path)) == ROOT / EXAMPLE


def test_an_unknown_package_is_named() -> None:
    with pytest.raises(PathProblem, match="no_such_package_here"):
        resolve("$(find-pkg-share no_such_package_here)/m.yaml")
    assert (
        "no_such_package_here" in only(ManifestFiles("package://no_such_package_here/m.yaml").load().rejecting).message
    )


@pytest.mark.parametrize(("mode", "refused"), [("hybrid", False), ("manifest_only", True)])
def test_a_check_before_the_start_tells_what_is_wrong(folder: Path, mode: str, refused: bool) -> None:
    config = check({"discovery.mode": mode, "discovery.manifest_path": str(folder / "robot.yaml")}).config
    assert manifest_findings(config) == []
    (folder / "robot.yaml").write_text(GOOD.replace("apps", "colour: red\napps"))
    assert [(one.level, one.fatal) for one in manifest_findings(config)] == [("INFO", False)]
    (folder / "robot.yaml").write_text(GOOD.replace("1.0", "2"))
    (finding,) = manifest_findings(config)
    assert (finding.level, finding.fatal) == ("ERROR", refused)
    assert finding.message.startswith(f"manifest: {folder}/robot.yaml:1: manifest_version: ")


def test_a_check_reads_no_manifest_that_is_not_used(folder: Path) -> None:
    paths = {"discovery.manifest_path": "/nowhere"}
    assert manifest_findings(check(paths).config) == []
    off = {"discovery.mode": "hybrid", "discovery.manifest.enabled": False}
    assert manifest_findings(check({**paths, **off}).config) == []


def test_other_paths_are_taken_as_they_are() -> None:
    assert resolve("/a/b.yaml") == Path("/a/b.yaml")
    assert resolve("~/b.yaml") == Path.home() / "b.yaml"
