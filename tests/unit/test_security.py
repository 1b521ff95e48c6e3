"""What SECURITY.md says, as far as it can be read off the agent's text: what listens, what is asked of a
network, and which mounts there are.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agent.config.settings import Settings
from agent.disks import mode_autofs
from tests.unit.modules import MODULES, PROJECT, tree

POSTER = PROJECT / "agent/programs/poster.py"
SOCKETS = sorted((PROJECT / "units").glob("*.socket"))


def _settings(unit: Path) -> dict[str, str]:
    lines = unit.read_text().split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("unit", SOCKETS, ids=lambda unit: unit.name)
def test_what_listens_is_roots_or_the_kernels(unit: Path) -> None:
    found = _settings(unit)
    listening = {name for name in found if name.startswith("Listen")}
    if listening == {"ListenNetlink"}:
        assert found["ListenNetlink"].startswith("kobject-uevent")
    elif listening == {"ListenSpecial"}:  # a file of the kernel's that only root can open
        assert found["ListenSpecial"].startswith("/sys/kernel/tracing/")
    else:
        assert listening == {"ListenStream"}
        assert found["ListenStream"].startswith("/run/gandi/")
        assert found["SocketMode"] == "0600"


def _names(module: ast.Module, name: str) -> bool:
    """Whether the module imports something of that name."""
    imports = (node for node in ast.walk(module) if isinstance(node, ast.ImportFrom))
    return any(alias.name == name for node in imports for alias in node.names)


def _socket_families(module: ast.Module) -> set[str]:
    """Those of the sockets that are made; one that systemd has handed over is none."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    made = [
        call for call in calls if ast.unparse(call.func) in ("socket.socket", "socket.create_connection")
    ]
    handed = [call for call in made if any(word.arg == "fileno" for word in call.keywords)]
    return {ast.unparse(call.args[0]) if call.args else "AF_INET" for call in made if call not in handed}


def _asks(module: Path) -> list[str]:
    """Return what a module uses of a network without being allowed to."""
    nodes = list(ast.walk(tree(module)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    found = {name.partition(".")[0] for name in names} & {"urllib", "http", "ftplib", "ssl", "requests"}
    if module == POSTER:  # a program of its own, which sends a POST and reads only its status
        found.clear()
    found |= names & {"agent.programs.poster"}
    if "agent.programs" in names and _names(tree(module), "poster"):
        found.add("agent.programs.poster")
    allowed = {"socket.AF_UNIX", "socket.AF_NETLINK"}
    if module.parts[-2:] == ("reporting", "notify_socket.py"):  # to the hypervisor alone, and send-only
        allowed.add("socket.AF_VSOCK")
    if module.parts[-2:] == ("network", "ssh_probe.py"):  # this machine's sshd, at addresses it listens on
        allowed.add("place")
    return sorted(found | (_socket_families(tree(module)) - allowed))


def test_no_network_is_asked_for_a_configuration() -> None:
    """So there is none that a machine of an unknown platform could be made to ask (CVE-2024-6174)."""
    asked = {str(module.relative_to(PROJECT)): _asks(module) for module in MODULES}
    assert not {name: what for name, what in asked.items() if what}


def test_what_is_mounted_gives_no_program_of_a_disk_another_users_rights() -> None:
    """CVE-2025-6019: a filesystem that a user prepared, mounted with its set-id programs in force."""
    for options in (Settings().mount_params, mode_autofs.OPTIONS):
        assert {"nosuid", "nodev"} <= set(options.split(","))


def _mounts(module: ast.Module) -> bool:
    """Whether there is a mount in it: a command or a system call by its number."""
    for node in ast.walk(module):
        match node:
            case ast.Tuple(elts=[ast.Constant("mount" | "systemd-mount"), *_]):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name("libc"), attr="mount")):
                return True
            case ast.Name("_FSMOUNT"):
                return True
    return False


def test_growth_and_checks_mount_nothing() -> None:
    """Data disks are mounted at one place, with the options of the settings; media and images privately."""
    found = {str(module.relative_to(PROJECT)) for module in MODULES if _mounts(tree(module))}
    assert found == {
        "agent/disks/base/system.py",
        "agent/disks/offline/mounting.py",
        "agent/disks/offline/scratch.py",
        "agent/block/detached_mount.py",
    }
