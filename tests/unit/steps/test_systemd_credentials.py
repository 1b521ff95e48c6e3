"""What systemd's own credentials bring is never undone, and who did it is named."""

from __future__ import annotations

import pytest

from agent.accounts import passwords
from agent.block import mounts as uses
from agent.config.model import User
from agent.config.nics import Nic
from agent.config.system import Mount, System
from agent.host.host import Host
from agent.report import Item
from agent.steps import mounts, network, resolver
from agent.systemd import credentials
from tests.unit.network.test_interfaces import add_nic

from .conftest import Machine

HASH = "$6$saltsalt$" + "x" * 86
OTHER = "$6$saltsalt$" + "y" * 86


def _pass(machine: Machine, name: str, text: str) -> None:
    machine.put(f"{credentials.FOLDERS[0]}/{name}", text)


def test_a_mount_of_fstab_extra_is_systemds(machine: Machine) -> None:
    _pass(machine, "fstab.extra", "# more\nLABEL=theirs /data ext4 defaults 0 2\n")
    machine.deliver(
        system=System(mounts=(Mount("UUID=1-2", "/data", "ext4"), Mount("UUID=3", "/else", "xfs")))
    )
    assert machine.run(mounts.apply) == {
        "mount:/data": "skipped: systemd mounts it, by its credential fstab.extra",
        "mount:/else": "changed: UUID=3",
    }
    assert machine.text("/etc/fstab") == "UUID=3 /else xfs defaults,nofail 0 0\n"


def test_a_disk_of_fstab_extra_is_not_mounted_by_the_agent(machine: Machine) -> None:
    _pass(machine, "fstab.extra", "# more\nLABEL=theirs /data ext4 defaults 0 2\n")
    (claim,) = uses.claims(Host(machine.root))
    assert (claim.what, claim.where, claim.origin) == (
        "LABEL=theirs",
        "/data",
        "/run/credentials/@system/fstab.extra line 2",
    )
    assert uses.claims(Host(machine.root, offline=True)) == ()


@pytest.mark.parametrize("name", ["network.dns", "network.search_domains"])
def test_resolvers_of_resolved_are_not_set_over_its_credential(machine: Machine, name: str) -> None:
    machine.put("/usr/lib/systemd/systemd-resolved")
    machine.put("/etc/hosts")
    machine.deliver(nameservers=("192.0.2.1",))
    _pass(machine, name, "192.0.2.9")
    assert machine.run(resolver.apply)["resolvers"].startswith("changed"), "nothing reads the credential"
    (machine.root / "etc/resolv.conf").unlink()
    (machine.root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert machine.run(resolver.apply) == {
        "resolvers": f"skipped: systemd-resolved sets them, by its credential {name}"
    }
    assert not (machine.root / resolver.RESOLVED_DROP_IN.lstrip("/")).exists()


def test_the_network_of_a_credential_is_networkds(machine: Machine) -> None:
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    add_nic(machine.root, "ens0", "52:54:00:00:00:00", device="pci0000:00/0000:00:00.0", index=2)
    machine.deliver(nics=(Nic(0, addresses=("203.0.113.10/24",)),))
    _pass(machine, "network.network.50-all", "[Match]\nName=*\n")
    assert machine.run(network.apply) == {
        "network": "skipped: systemd-networkd configures it, by its credential network.network.50-all"
    }
    assert not (machine.root / "etc/systemd/network").exists()


def _password(machine: Machine, user: User, plain: str | None = None) -> Item:
    (item,) = passwords.reconcile(machine.context(same_boot=True).state, user, plain)
    return item


def test_a_password_that_systemd_has_set_stays(machine: Machine) -> None:
    machine.put("/etc/shadow", f"root:{HASH}:20000:0:99999:7:::\n")
    machine.put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _pass(machine, "passwd.hashed-password.root", f"{HASH}\n")
    wanted = "kept: password:root: systemd has set it, by its credential passwd.hashed-password.root"
    assert str(_password(machine, User("root", OTHER))) == wanted
    assert str(_password(machine, User("root"), "plain")) == wanted
    assert HASH in machine.text("/etc/shadow")


def test_a_plain_password_of_systemds_stays(machine: Machine) -> None:
    machine.put("/etc/shadow", f"root:{HASH}:20000:0:99999:7:::\n")
    machine.put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _pass(machine, "passwd.plaintext-password.root", "hunter2")
    assert str(_password(machine, User("root", OTHER))) == (
        "kept: password:root: systemd has set it, by its credential passwd.plaintext-password.root"
    )


@pytest.mark.parametrize("live", ["*", "!", "", OTHER])
def test_a_password_that_systemd_has_not_set_is_the_documents(
    machine: Machine, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where root has an entry, systemd's programs leave it as it is."""
    machine.put("/etc/shadow", f"root:{live}:20000:0:99999:7:::\n")
    machine.put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _pass(machine, "passwd.hashed-password.root", HASH)
    asked: list[str] = []
    monkeypatch.setattr(passwords, "_set_hash", lambda _host, _user, hashed: asked.append(hashed))
    _password(machine, User("root", "$6$saltsalt$" + "z" * 86))
    assert asked == ["$6$saltsalt$" + "z" * 86]
