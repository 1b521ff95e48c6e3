"""Host keys and machine-id are replaced once on a new instance, and on no other."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest

from agent.config.model import File, Sshd
from agent.context import Context, Medium
from agent.host.host import Completed, Host
from agent.reader import client
from agent.sources import FoundMedium
from agent.state import regenerate
from agent.state.store import State
from agent.steps import hostkeys, machineid, source
from tests.unit.steps.conftest import IDENTITY, Machine

ID = "0123456789abcdef0123456789abcdef"
OTHER = "4c4c4544-0000-1000-8000-000000000002"
KEYS = ("ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_rsa_key-cert.pub", "ssh_host_ed25519_key")


@pytest.fixture(autouse=True)
def _image(machine: Machine) -> None:
    machine.put("/etc/machine-id", f"{ID}\n")
    machine.put("/var/lib/dbus/machine-id", f"{ID}\n")
    for name in (*KEYS, "sshd_config", "ssh_host_key.mine"):
        machine.put(f"/etc/ssh/{name}", name)


def expect(machine: Machine) -> None:
    regenerate.schedule(machine.context())


def present(machine: Machine) -> list[str]:
    return sorted(os.listdir(machine.root / "etc/ssh"))


def test_both_are_made_anew_once(machine: Machine) -> None:
    expect(machine)
    assert machine.run(machineid.apply) == {"machine-id": "changed: new"}
    new = machine.text("/etc/machine-id")
    assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n", new)
    assert new != f"{ID}\n"
    assert machine.text("/var/lib/dbus/machine-id") == new
    assert (machine.root / "etc/machine-id").stat().st_mode & 0o777 == 0o444
    assert machine.run(hostkeys.apply) == {"host keys": "changed: new"}
    assert present(machine) == ["ssh_host_key.mine", "sshd_config"]
    machine.put("/etc/ssh/ssh_host_rsa_key", "made")
    before = machine.stamps()
    assert machine.run(machineid.apply) == machine.run(hostkeys.apply) == {}
    assert machine.stamps() == before


def test_nothing_of_an_instance_that_is_not_new(machine: Machine) -> None:
    assert machine.run(machineid.apply) == machine.run(hostkeys.apply) == {}
    assert machine.text("/etc/machine-id") == f"{ID}\n"
    assert set(KEYS) <= set(present(machine))


def test_dbus_follows_by_its_link(machine: Machine) -> None:
    dbus = machine.root / "var/lib/dbus/machine-id"
    dbus.unlink()
    dbus.symlink_to("/etc/machine-id")
    expect(machine)
    machine.run(machineid.apply)
    assert dbus.is_symlink()


@pytest.mark.parametrize("text", ["", "uninitialized\n"])
def test_one_that_is_not_made_yet_is_left_to_systemd(machine: Machine, text: str) -> None:
    machine.put("/etc/machine-id", text)
    expect(machine)
    assert machine.run(machineid.apply) == {"machine-id": "unchanged: made in this boot"}
    assert machine.text("/etc/machine-id") == text


def test_the_flag_counts_on_the_day_that_the_machine_is_set_up(machine: Machine) -> None:
    expect(machine)
    machine.put("/etc/default/gandi", "CONFIG_SSH_HOSTKEYS=0\n")
    assert machine.run(hostkeys.apply) == {"host keys": "skipped: CONFIG_SSH_HOSTKEYS=0"}
    machine.put("/etc/default/gandi", "")
    assert machine.run(hostkeys.apply) == {}
    assert set(KEYS) <= set(present(machine))


def test_the_images_keys_stay_if_the_document_says_so(machine: Machine) -> None:
    expect(machine)
    machine.deliver(sshd=Sshd(delete_keys=False))
    assert machine.run(hostkeys.apply) == {"host keys": "skipped: ssh_deletekeys: false"}
    assert set(KEYS) <= set(present(machine))


def test_delivered_keys_stay(machine: Machine) -> None:
    expect(machine)
    file = File("/etc/ssh/ssh_host_ed25519_key", "x", "00", mode=0o600)
    machine.deliver(sshd=Sshd(has_keys=True), files=(file,))
    assert machine.run(hostkeys.apply) == {"host keys": "changed: new"}
    assert [name for name in present(machine) if name in KEYS] == ["ssh_host_ed25519_key"]


def test_the_types_are_those_of_the_new_instance(machine: Machine) -> None:
    expect(machine)
    machine.deliver(sshd=Sshd(key_types=("rsa", "ed25519")))
    machine.run(hostkeys.apply)
    assert machine.text(hostkeys.TYPES) == "rsa\ned25519\n"
    machine.deliver(sshd=None)
    machine.run(hostkeys.apply)
    assert machine.text(hostkeys.TYPES) == "rsa\ned25519\n", "keys are made once"
    expect(machine)
    machine.run(hostkeys.apply)
    assert not (machine.root / hostkeys.TYPES[1:]).exists()


@pytest.mark.parametrize(
    ("state", "enabled", "again", "made"),
    [
        ("running", True, False, 0),
        ("running", True, True, 1),
        ("done", True, True, 1),
        ("running", False, False, 1),
    ],
)
def test_made_here_where_the_unit_does_not_come(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str, enabled: bool, again: bool, made: int
) -> None:
    """With a late drive, a stage that runs again, or a disabled unit."""
    expect(machine)
    argvs: list[tuple[str, ...]] = []

    def run(_host: Host, argv: Sequence[str], **_how: Any) -> Completed:
        argvs.append(tuple(argv))
        return Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(Host, "run", run)
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
    if enabled:
        folder = machine.root / "etc/systemd/system/multi-user.target.wants"
        folder.mkdir(parents=True)
        (folder / hostkeys.KEYGEN).symlink_to("/x")
    ctx = machine.context()
    ctx.status.merge("stages", "bootstrap", {"state": state})
    if again:
        ctx.status.merge("stages", "mount", {"state": "done"})
    list(hostkeys.apply(ctx))
    assert argvs.count((hostkeys.MAKER,)) == made


def deliver(machine: Machine, ctx: Context) -> None:
    """Put a document in force as the source step does."""
    parsed = client.parse_files(
        "gandi", {"gandi/config": b'{"vm_hostname": "vm1", "nameservers": [], "vif": []}'}
    )
    list(
        source.put_in_force(
            ctx, FoundMedium(Medium("gandi", "vda", "254:0"), parsed), parsed, ctx.state.config()
        )
    )


def test_it_is_noted_before_the_machine_becomes_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut between the two, the next boot finds the medium again."""
    machine.put("/sys/class/dmi/id/product_uuid", OTHER)
    ctx = machine.context()
    with monkeypatch.context() as patch:
        patch.setattr(State, "set_instance", lambda *_a, **_k: pytest.fail("the power is gone"))
        with pytest.raises(pytest.fail.Exception):
            deliver(machine, ctx)
    assert machine.run(hostkeys.apply) == {}, "still the old one"
    ctx = machine.context()
    deliver(machine, ctx)
    assert ctx.config is not None
    assert ctx.config.identity.id == OTHER
    assert regenerate.is_due(ctx, regenerate.HOST_KEYS)
    assert regenerate.is_due(ctx, regenerate.MACHINE_ID)


def test_the_same_again_notes_nothing(machine: Machine) -> None:
    machine.put("/sys/class/dmi/id/product_uuid", IDENTITY.id)
    ctx = machine.context()
    deliver(machine, ctx)
    assert not regenerate.is_due(ctx, regenerate.HOST_KEYS)


def test_a_machine_that_runs_keeps_its_id_until_it_boots(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a late drive: the network is up by then."""
    expect(machine)
    with monkeypatch.context() as patch:
        patch.setattr(Host, "live", property(lambda _host: True))
        patch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
        ctx = machine.context()
        ctx.status.merge("stages", "bootstrap", {"state": "done"})
        assert [item.outcome for item in machineid.apply(ctx)] == ["skipped"]
    assert machine.text("/etc/machine-id") == f"{ID}\n"
    assert machine.run(machineid.apply) == {"machine-id": "changed: new"}


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (-3600, "changed"),  # the clock of this machine is behind that of the image's maker
        (5, "unchanged"),
        (11, "changed"),  # an image made a moment before its first boot
        (86400, "changed"),
    ],
)
def test_only_one_that_this_boot_has_made_is_its_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, age: int, said: str
) -> None:
    now = int(time.time())
    expect(machine)
    machine.put("/proc/stat", f"cpu 0\nbtime {now - 10}\n")
    os.utime(machine.root / "etc/machine-id", (now - age, now - age))
    monkeypatch.setattr(Host, "live", property(lambda _host: True))
    monkeypatch.setattr(Host, "path", lambda host, name: f"{host.root}/{name.lstrip('/')}")
    ctx = machine.context()
    ctx.status.merge("stages", "bootstrap", {"state": "running"})
    assert [item.outcome for item in machineid.apply(ctx)] == [said]
