"""A machine on which networkd runs and manages no link, as on many where the package is installed later."""

from __future__ import annotations

from pathlib import Path

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.delivered import delivered
from tests.vm.plugged import NOBODYS
from tests.vm.rig import ImageSpec, newest_deb

WAITING = "systemd-networkd-wait-online.service"
#: Shortens networkd's two minutes for the script that does wait.
SHORT = f"""\
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/{WAITING.removesuffix(".service")} --timeout=3
"""


def test_the_network_is_waited_for_only_where_a_script_is_to_run(machine: Rig, tmp_path: Path) -> None:
    """A boot without a script does not wait, and nothing fails; a script that is delivered runs although the
    wait for the network fails.
    """
    settings = ("echo CONFIG_NETWORK=0 >> /etc/default/gandi", sample.KEEPS_KEYS)
    image = ImageSpec(debs=(newest_deb(),), commands=settings, files=(NOBODYS,))
    vm = machine.start(image, sample.SPEC)
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.run("systemctl is-active systemd-networkd; ls -d /sys/class/net/e*")
    assert vm.output('networkctl --no-legend list | awk \'$2 != "lo" && $5 != "unmanaged"\'') == ""
    assert vm.output(f"systemctl is-enabled {WAITING}") == "enabled"
    assert vm.output("systemctl show -P ActiveState network-online.target") == "inactive"
    assert vm.output(f"systemctl show -P ExecMainStartTimestampMonotonic {WAITING}") == "0"

    vm.run(f"mkdir /etc/systemd/system/{WAITING}.d")
    vm.write_file(f"/etc/systemd/system/{WAITING}.d/short.conf", SHORT)
    vm.run("systemctl daemon-reload")
    delivered(vm, sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT))
    vm.wait_until("grep -q ^run /root/order")
    assert sample.order(vm) == ["script one two words three in /", "run in /"]
    assert vm.output(f"systemctl show -P Result {WAITING}") == "exit-code"
    assert vm.output("systemctl show -P ActiveState network-online.target") == "active"
    assert vm.output("systemctl show -P Result gandi-postboot") == "success"
