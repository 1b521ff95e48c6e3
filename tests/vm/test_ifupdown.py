"""The same machine where ifupdown manages the network and there is no D-Bus at all."""

from __future__ import annotations

from pathlib import Path

from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import ImageSpec, Network, newest_deb


def test_an_image_with_ifupdown_and_without_dbus_boots_the_same(machine: Rig, tmp_path: Path) -> None:
    keeps = (sample.KEEPS_KEYS,)
    spec = ImageSpec(debs=(newest_deb(),), network=Network.IFUPDOWN, without=("dbus",), commands=keeps)
    vm = machine.start(spec, sample.SPEC, disks=[sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)])
    # Without D-Bus, is-system-running cannot wait.
    over = "systemctl is-system-running | grep -qE '^(running|degraded)$'"
    vm.wait_until(over, timeout=180, interval=2)
    assert vm.output("systemctl is-system-running") == "running", vm.output("systemctl --failed")
    vm.run("! command -v dbus-daemon")
    assert vm.output("systemctl is-active systemd-networkd || true") == "inactive"
    checks.addresses(vm)
    checks.resolvers(vm)
    vm.wait_until("grep -q ^run /root/order")
    outcomes = sample.steps(vm, "bootstrap")
    assert outcomes["network"] == outcomes["users"] == "changed"
