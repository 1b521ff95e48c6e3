"""The same machine where ifupdown manages the network."""

from __future__ import annotations

from pathlib import Path

from tests.vm import checks, sample
from tests.vm.conftest import Rig
from tests.vm.rig import ImageSpec, Network, newest_deb


def test_ifupdown_configures_the_same_machine(machine: Rig, tmp_path: Path) -> None:
    """At the first boot, and at the next one from the files alone."""
    spec = ImageSpec(debs=(newest_deb(),), network=Network.IFUPDOWN)
    vm = machine.start(spec, sample.SPEC, disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    assert vm.output("systemctl is-active systemd-networkd || true") == "inactive"
    checks.addresses(vm)
    checks.resolvers(vm)
    assert sample.steps(vm, "bootstrap")["network"] == "changed"
    written = vm.output("cat /etc/network/interfaces.d/gandi-*")
    vm.reboot()
    assert vm.wait_booted() == "running"
    checks.addresses(vm)
    checks.resolvers(vm)
    assert sample.steps(vm, "bootstrap")["network"] == "unchanged"
    assert vm.output("cat /etc/network/interfaces.d/gandi-*") == written
