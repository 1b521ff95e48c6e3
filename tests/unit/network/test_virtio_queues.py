"""As many queue pairs as CPUs, at most eight; a number that the administrator chose is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.context import Context, context
from agent.host.host import Host
from agent.network import ethtool_netlink
from agent.network import virtio_queues as queues
from tests.unit.network.test_interfaces import add_nic

#: VIRTIO_NET_F_MQ is bit 22.
SEVERAL, ONE = "0" * 22 + "1" + "0" * 41, "0" * 64


class Nics:
    """Answers in place of the kernel, for NICs with at most ``most`` queue pairs."""

    def __init__(self, root: Path, most: int) -> None:
        self.root, self.most, self.requests = root, most, list[tuple[int, int]]()

    def queues(self, index: int) -> tuple[int, int]:
        return len(list((self.root / f"sys/class/net/ens{index}/queues").glob("tx-*"))), self.most

    def set_queues(self, _host: Host, index: int, count: int) -> None:
        self.requests.append((index, count))
        use(self.root, index, count)


def use(root: Path, index: int, count: int) -> None:
    """Set the number of queue pairs that the NIC uses."""
    folder = root / f"sys/class/net/ens{index}/queues"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.rmdir()
    for number in range(count):
        (folder / f"tx-{number}").mkdir()
        (folder / f"rx-{number}").mkdir()


def cpus(root: Path, text: str) -> None:
    """Set which CPUs are online."""
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "online").write_text(f"{text}\n")


def plug(root: Path, index: int, features: str) -> None:
    place = f"pci0000:00/0000:00:{index:02x}.0/virtio{index}"
    add_nic(root, f"ens{index}", f"52:54:00:00:00:{index:02x}", device=place, index=index)
    (root / "sys/devices" / place / "features").write_text(f"{features}\n")
    use(root, index, 1)


@pytest.fixture
def nics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nics:
    """Make two virtio NICs, the second with several queue pairs."""
    found = Nics(tmp_path, 16)
    monkeypatch.setattr(ethtool_netlink, "queues", found.queues)
    monkeypatch.setattr(ethtool_netlink, "set_queues", found.set_queues)
    cpus(tmp_path, "0")
    plug(tmp_path, 2, ONE)
    plug(tmp_path, 3, SEVERAL)
    return found


def tune(nics: Nics) -> dict[str, str]:
    """Run ``reconcile`` once, as a daemon that has just started."""
    ctx: Context = context(Host(nics.root))
    return {item.name: f"{item.outcome}: {item.detail}" for item in queues.reconcile(ctx)}


def test_they_follow_the_cpus_up_and_down_and_end_at_eight(nics: Nics, tmp_path: Path) -> None:
    assert tune(nics) == {"queues:ens3": "unchanged: 1"}
    cpus(tmp_path, "0-3")
    assert tune(nics) == {"queues:ens3": "changed: 1 -> 4"}
    cpus(tmp_path, "0,2-3")
    assert tune(nics) == {"queues:ens3": "changed: 4 -> 3"}
    cpus(tmp_path, "0-31")
    assert tune(nics) == {"queues:ens3": "changed: 3 -> 8"}
    assert nics.requests == [(3, 4), (3, 3), (3, 8)]


def test_no_more_than_the_device_has(nics: Nics, tmp_path: Path) -> None:
    nics.most = 2
    cpus(tmp_path, "0-3")
    assert tune(nics) == {"queues:ens3": "changed: 1 -> 2"}
    assert tune(nics) == {"queues:ens3": "unchanged: 2"}


def test_a_number_that_somebody_chose_stays(nics: Nics, tmp_path: Path) -> None:
    cpus(tmp_path, "0-3")
    tune(nics)
    use(tmp_path, 3, 2)
    assert tune(nics) == {"queues:ens3": "kept: changed by admin"}
    cpus(tmp_path, "0-7")
    assert tune(nics) == {"queues:ens3": "kept: changed by admin"}
    use(tmp_path, 3, 8)
    assert tune(nics) == {"queues:ens3": "unchanged: 8"}
    assert nics.requests == [(3, 4)]


def test_the_setting(nics: Nics, tmp_path: Path) -> None:
    Host(tmp_path).write("/etc/default/gandi", "CONFIG_MULTIQUEUE=0\n")
    cpus(tmp_path, "0-3")
    assert tune(nics) == {}
