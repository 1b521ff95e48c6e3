"""The same machine where ifupdown manages the network and there is no D-Bus at all."""

from __future__ import annotations

from pathlib import Path

from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import ImageSpec, Network, newest_deb


def test_an_image_with_ifupdown_and_without_dbus_boots_the_same(machine: Rig, tmp_path: Path) -> None:
    spec = ImageSpec(debs=(newest_deb(),), network=Network.IFUPDOWN, without=("dbus",))
    vm = machine.start(spec, sample.SPEC, disks=[sample.swap_disk(tmp_path)])
    # Without D-Bus, is-system-running cannot wait.
    vm.wait_until("systemctl is-system-running | grep -qE '^(running|degraded)$'", timeout=180)
    assert vm.output("systemctl is-system-running") == "running", vm.output("systemctl --failed")
    vm.run("! command -v dbus-daemon")
    assert vm.output("systemctl is-active systemd-networkd || true") == "inactive"
    checks.addresses(vm)
    checks.resolvers(vm)
    vm.wait_until("grep -q ^run /root/order")
    outcomes = sample.steps(vm, "bootstrap")
    assert outcomes["network"] == outcomes["users"] == "changed"
