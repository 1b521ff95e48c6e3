"""docs/removal.md: what goes and what stays, row by row, by the scripts of both packages; no file is missing
in it.
"""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from agent.cli import withdraw
from agent.host.host import Host
from agent.metrics import exposition
from agent.state.store import State
from agent.systemd import boot_mounts
from tests.unit.test_maintainer_scripts import play, play_text

PROJECT = Path(__file__).parents[2]
STAYS, GOES, UNLESS, NOT_THERE = "stays", "goes", "goes unless changed", "-"
LINKS = withdraw.LINKS | {"/etc/kernel/postinst.d/gandi-agent": "/usr/lib/gandi-agent/kernel-hook"}
SPEC = (PROJECT / "rpm/gandi-agent.spec").read_text()


def _table() -> dict[str, tuple[str, str, str]]:
    """Return for each path what becomes of it: removed, purged, and erased as an RPM."""
    found = {}
    for line in (PROJECT / "docs/removal.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for path in re.findall(r"`([^`]+)`", cells[0]):
                found[path] = (cells[1], cells[2], cells[3])
    return found


TABLE = _table()


def _name(path: str) -> str:
    """Return a path that the row's pattern has."""
    return path.replace("*", "x").rstrip("/")


def _make(root: Path, path: str, *, links_to: str, changed: bool) -> None:
    """Make a file as the agent leaves it, with its record; with ``changed``, as an administrator left it.
    ``links_to`` is put before the target of a link, and before the path of the metrics in the settings.
    """
    host, name = Host(root), _name(path)
    text = f"the text of {name}\n"
    if path.endswith(".mount"):
        assert boot_mounts.write_unit(host, Path(name).name, "[Mount]\nWhere=/x\n")
    elif path in LINKS:
        is_ours = path in withdraw.LINKS
        host.symlink(name, f"{links_to if is_ours else ''}{LINKS[path]}")
    elif path == boot_mounts.WANTS + "/":
        pass  # made with the unit
    elif path.endswith("/"):
        host.write(f"{name}/file", text)
    elif path.endswith(".prom"):
        text = exposition.render("1", {}, {}, exposition.Counts())
        host.write(name, text)
        for settings in ("/etc/default/gandi", "/etc/sysconfig/gandi"):
            host.write(settings, f"export CONFIG_METRICS_FILE='{links_to}{name}'  # ours\n")
    elif not host.exists(name):
        host.write(name, text)
    for state in (State(host).system(), State(host, "/var/lib/gandi/instances/one")):
        state.record_value(withdraw.FILES.get(path, path), text)
    if changed and path in LINKS:
        host.remove(name)
        host.write(name, "mine\n")
    elif changed and not path.endswith("/"):
        host.write(
            name, f"# mine\n{host.read(name)}" if path.endswith(".prom") else f"{host.read(name)}# mine\n"
        )


def _is_there(root: Path, path: str) -> bool:
    place = root / _name(path)[1:]
    return place.exists() or place.is_symlink()


def _compare(root: Path, column: int, *, changed: bool) -> None:
    """Fail unless each file is there, or not, as the table's column says."""
    rows = {path: cells[column] for path, cells in TABLE.items() if cells[column] != NOT_THERE}
    assert set(rows.values()) <= {STAYS, GOES, UNLESS}
    expected = {path: cell == STAYS or (cell == UNLESS and changed) for path, cell in rows.items()}
    assert {path: _is_there(root, path) for path in rows} == expected


@pytest.mark.parametrize("changed", [False, True])
def test_debians_package(tmp_path: Path, *, changed: bool) -> None:
    for path in TABLE:
        _make(tmp_path, path, links_to=str(tmp_path), changed=changed)
    assert all(_is_there(tmp_path, path) for path in TABLE)
    for column, calls in enumerate(([("prerm", "remove"), ("postrm", "remove")], [("postrm", "purge")])):
        for script, argument in calls:
            done = play(tmp_path, script, argument)
            assert (done.returncode, done.stderr) == (0, "")
        _compare(tmp_path, column, changed=changed)


@pytest.mark.parametrize("changed", [False, True])
def test_the_rpm(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, changed: bool) -> None:
    assert re.search(
        r"^%preun\nif \[ \"\$1\" -eq 0 \].*?^\tgandi-agent withdraw \|\| :$", SPEC, re.DOTALL | re.MULTILINE
    )
    for path in TABLE:
        _make(tmp_path, path, links_to="", changed=changed)
    (tmp_path / "etc/default/gandi").unlink()  # Debian's
    assert withdraw.withdraw(Host(tmp_path)) == 0
    said = capsys.readouterr().out
    assert ("changed: /etc/sysctl.d/10-gandi.conf: removed" in said) is not changed
    assert ("kept: /etc/sysctl.d/10-gandi.conf" in said) is changed
    postun = SPEC.partition("\n%postun\n")[2]
    done = play_text(tmp_path, postun, "postun", "0")
    assert (done.returncode, done.stderr) == (0, "")
    _compare(tmp_path, 2, changed=changed)


def test_what_the_rpm_has_removed_is_made_again_by_a_later_installation(tmp_path: Path) -> None:
    """A missing file with a record would count as removed by the administrator."""
    _make(tmp_path, "/etc/sysctl.d/10-gandi.conf", links_to="", changed=False)
    _make(tmp_path, "/etc/motd.d/gandi", links_to="", changed=False)
    assert withdraw.withdraw(Host(tmp_path)) == 0
    assert not {"sysctl", "motd"} & set(State(Host(tmp_path)).system().recorded_items(""))


def test_a_file_without_a_record_stays(tmp_path: Path) -> None:
    _make(tmp_path, "/etc/sysctl.d/10-gandi.conf", links_to="", changed=False)
    (tmp_path / "var/lib/gandi/system/applied.json").unlink()
    assert withdraw.withdraw(Host(tmp_path)) == 0
    assert play(tmp_path, "postrm", "purge").returncode == 0
    assert (tmp_path / "etc/sysctl.d/10-gandi.conf").exists()


def test_another_programs_metrics_stay(tmp_path: Path) -> None:
    """Also where the setting names them."""
    host = Host(tmp_path)
    for links_to, remove in (
        (str(tmp_path), lambda: play(tmp_path, "postrm", "purge")),
        ("", lambda: withdraw.withdraw(host)),
    ):
        host.write("/etc/default/gandi", f'CONFIG_METRICS_FILE="{links_to}/srv/a.prom"\n')
        host.write("/srv/a.prom", "# HELP node_x\n")
        remove()
        assert (tmp_path / "srv/a.prom").exists()


def _written(module: Path) -> set[str]:
    """Return the paths in /etc with the agent's name that a module has, with x for what is filled in."""
    found, parts = set[str](), set[ast.expr]()
    for node in ast.walk(ast.parse(module.read_text())):  # a string comes before its parts
        if isinstance(node, ast.JoinedStr):
            filled = (str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
            found.add("".join(filled))
            parts |= set(node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            found.add(node.value)
    return {one for one in found if re.fullmatch(r"/etc/[^ ]*gandi[^ ]*", one) and "\n" not in one}


def test_no_file_of_the_agent_is_missing_in_the_table() -> None:
    # What succeed.py names is the old package's.
    modules = [path for path in (PROJECT / "agent").rglob("*.py") if path.name != "succeed.py"]
    named = {path for module in modules for path in _written(module)}
    assert len(named) > 15
    rows = [path.rstrip("/") for path in TABLE] + ["/etc/sysconfig/gandi"]
    # A constant may be the beginning of a name, or the folder of files in the table.
    missing = {
        path
        for path in named
        if not any(
            fnmatch(path, row) or fnmatch(f"{path}x", row) or row.startswith(path.rstrip("/") + "/")
            for row in rows
        )
    }
    assert not missing, "add them to docs/removal.md"
