"""The agent installed on a running machine that was set up without it: nothing is changed."""

from __future__ import annotations

from pathlib import Path

from tests.vm import sample
from tests.vm.admin import ADMINS, put_together
from tests.vm.delivered import delivered_again
from tests.vm.rig import Machine, newest_deb


def test_a_running_machine_is_adopted(booted_plain: Machine, tmp_path: Path) -> None:
    """The installation, and a boot with the platform's first document, change nothing that the administrator
    has set up; what the platform changes after that is applied, and nothing else.
    """
    vm = booted_plain
    put_together(vm)
    vm.write_file("/root/new.deb", newest_deb().read_bytes())
    before = vm.output(ADMINS)
    said = vm.output("dpkg -i /root/new.deb 2>&1", timeout=240)
    assert f"recorded as configured already, left unchanged: {vm.spec.uuid}" in said
    assert vm.output(ADMINS) == before
    assert vm.output("systemctl is-active gandi-agent.socket gandi-bootstrap || true").split() == [
        "active",
        "inactive",
    ]

    vm.run("sync")
    vm.cut_power()
    vm.cold_boot(disks=[sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)])
    vm.wait_booted()
    assert vm.output(ADMINS) == before
    vm.run("! test -e /root/order; ! id admin1")
    assert "as it was before the agent" in vm.output("gandi-agent status || true")
    kept = {item["name"] for item in sample.items(vm, "bootstrap") if item["outcome"] == "kept"}
    assert {"hostname", "hosts", "resolvers", "password:root", "user:admin1", "nic:0"} <= kept

    delivered_again(vm, sample.swap_disk(tmp_path, sample.changed(password=sample.NEW_HASH)))
    assert sample.NEW_HASH in vm.output("grep ^root: /etc/shadow")
    for line in vm.output(ADMINS).splitlines():
        assert "/etc/shadow" in line or line in before
    vm.run("! test -e /root/order; ! id admin1")
