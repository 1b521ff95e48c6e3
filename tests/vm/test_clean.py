"""A machine in use becomes an image: what identifies it and what its users did is gone; the next boot is a
first one.
"""

from __future__ import annotations

from pathlib import Path

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import State

OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC mine"
#: What a machine in use has, beside what its boot has left.
USED = f"""
echo 'mysql -p secret' > /root/.bash_history
mkdir -p /var/lib/apt/lists /var/log/app /etc/gandi/clean.d
echo x > /var/lib/apt/lists/deb_InRelease
echo line > /var/log/app/app.log; echo line > /var/log/app/app.log.1
echo '{OWN}' >> /root/.ssh/authorized_keys
"""
HOOK = """#!/bin/sh
echo "for: $GANDI_CLEAN"
"""
#: Files that must not be in an image.
LEFT = (
    "find /var/log/journal /var/lib/apt/lists /var/lib/gandi /root/.bash_history /home/admin1"
    " /var/lib/systemd/random-seed /var/log/app/app.log.1 /etc/ssh/ssh_host_*"
    " -type f ! -path /var/lib/apt/lists/lock 2>/dev/null || true"
)
HOST_KEY = "ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub"


def test_a_machine_in_use_becomes_an_image(machine: Rig, set_up: State, tmp_path: Path) -> None:
    """The same document is delivered at the next boot: its account and its key are made again."""
    vm = machine.clone(set_up)
    vm.run(USED)
    vm.write_file("/etc/gandi/clean.d/10-ours", HOOK, mode=0o755)
    key, machine_id = vm.output(HOST_KEY), vm.output("cat /etc/machine-id")

    vm.run("systemd-run --quiet --unit=held --uid=admin1 sleep 3600")
    refused = vm.run("gandi-agent clean --users --logs", check=False)
    assert refused.rc == 1
    assert "clean: admin1 is in use: process" in refused.stderr
    vm.run("id admin1 && test -s /root/.bash_history && test -e /var/lib/gandi/instance.json")
    vm.run("systemctl stop held")

    everything = "gandi-agent clean --logs --ssh-keys --users --zero"
    would = vm.output(f"{everything} --dry-run", timeout=120)
    assert "would be changed: admin1: removed, with /home/admin1" in would
    vm.run("id admin1 && test -s /root/.bash_history")

    said = vm.output(everything, timeout=900)
    for line in (
        "changed: admin1: removed, with /home/admin1",
        "changed: /root/.bash_history: removed",
        "changed: /var/log/app/app.log: emptied",
        "10-ours: for: logs ssh-keys users zero",
        "changed: 10-ours: run",
        "changed: free blocks: ",
        "power off now; the next boot is treated as a first boot",
    ):
        assert line in said, said
    vm.run("! id admin1 && test -d /var/log/app && test ! -s /etc/machine-id")
    keys = vm.read_file("/root/.ssh/authorized_keys").decode()
    assert OWN in keys
    assert sample.KEY.split()[1] not in keys
    # What is still logged is in memory.
    vm.run("logger after && journalctl --sync")
    assert vm.output(LEFT) == ""
    vm.power_off()

    vm.cold_boot(disks=[sample.swap_disk(tmp_path)])
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
    assert vm.output(HOST_KEY) != key
    assert vm.output("cat /etc/machine-id") not in ("", machine_id)
    vm.run("id admin1 && test -d /home/admin1")
    assert sample.KEY.split()[1] in vm.read_file("/root/.ssh/authorized_keys").decode()
