"""No secret leaks: the guest is searched for the password's hash and the texts of script and command."""

from __future__ import annotations

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import Machine, State

SECRETS = (sample.HASH, sample.SCRIPT_SECRET, sample.RUN_SECRET)
ALLOWED = ("/etc/shadow", "/etc/shadow-", "/gandi/", "/var/lib/gandi/")
#: Files written since the image was made, which had no secret in it; its last file is the rig's.
SEARCH = (
    "find $(ls -d /* | grep -vE '^/(proc|sys|dev)$') -type f -cnewer /usr/lib/rig/channel.py "
    "-exec env LC_ALL=C grep -laFf /root/secrets {} +; true"
)


@pytest.mark.long
def test_no_secret_leaves(machine: Rig, set_up: State) -> None:
    is_only_where_it_belongs(machine.clone(set_up), SECRETS)


def is_only_where_it_belongs(vm: Machine, secrets: tuple[str, ...], more: tuple[str, ...] = ()) -> None:
    """Search processes, units, messages and all files for the secrets; ``more`` are other places for them.

    The script of the sample has recorded processes and units while the agent's own were there.
    """
    vm.write_file("/root/secrets", "\n".join(secrets) + "\n", mode=0o600)
    for where in ("/root/processes", "/root/units"):
        assert vm.read_file(where), where
        vm.run(f"! grep -qFf /root/secrets {where}")
    for command in (
        "journalctl -b --no-pager -o export",
        "systemctl show '*'",
        "gandi-agent status --json",
        "gandi-agent config show",
        "gandi-agent config show --json",
        "gandi-agent --debug plan",
    ):
        vm.run(f"! {{ {command}; }} 2>&1 | grep -aqFf /root/secrets", timeout=120)
    # It stays, so the search below looks into it; what every report needs is there.
    assert vm.output("gandi-agent collect-logs -o /root/logs.tar") == "made /root/logs.tar"
    assert vm.output("stat -c '%a %u' /root/logs.tar") == "600 0"
    for word in ("stage bootstrap: done", "ready: ", "CONFIG_DISK_ROOT=/srv", "ID_FS_TYPE="):
        vm.run(["grep", "-aqF", word, "/root/logs.tar"])
    found = vm.output(SEARCH, timeout=300)
    stray = [name for name in found.splitlines() if name != "/root/secrets"]
    _only_where_they_belong(vm, stray, more)


def _only_where_they_belong(vm: Machine, found: list[str], more: tuple[str, ...]) -> None:
    assert "/etc/shadow" in found, "the search works"
    stray = [name for name in found if not name.startswith((*ALLOWED, *more))]
    assert not stray, stray
    for name in found:
        mode = vm.output(["stat", "-c", "%a %u", name])
        allowed = ("640 0", "600 0") if name.startswith("/etc/shadow") else ("600 0", "700 0", "400 0")
        assert mode in allowed, f"{name}: {mode}"
    assert vm.output("stat -c %a /var/lib/gandi") == "700"
