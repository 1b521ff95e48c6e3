"""The operator's plugins and the customer's scripts in every form, in one machine that has booted before."""

from __future__ import annotations

import re

import pytest

from tests.vm import sample
from tests.vm.conftest import Rig
from tests.vm.rig import Machine, State

PLUGINS = "/etc/gandi/plugins.d"
TRACE = 'echo "${0##*/} $GANDI_STAGE" >> /root/ran\n'
#: The same with a default, the default of an invalid line, and a value that a shell would expand.
SETTINGS = 'echo "${0##*/} $CONFIG_DISK_ROOT $CONFIG_CRON $CONFIG_DISK_ONLY" >> /root/ran\n'


@pytest.fixture
def vm(machine: Rig, set_up: State) -> Machine:
    """After its first boot."""
    return machine.clone(set_up)


def test_plugins(vm: Machine) -> None:
    """Order, kinds, owner, exit status, time limit, output; then the hook, and other packages' programs for
    the bootstrap stage.
    """
    for name, text in {
        "10-first": f"#!/bin/sh\n{TRACE}echo words for the journal\necho more >&2\n",
        "20-x.sh": f". /etc/gandi/plugins-lib\nload_config\n{SETTINGS}is_deb && echo plain >> /root/ran\n",
        "30-fails": f"#!/bin/sh\n{TRACE}exit 3\n",
        "40-python": "#!/usr/bin/python3\nprint('python', file=open('/root/ran', 'a'))\n",
        "B": f"#!/bin/sh\n{TRACE}",
        "a-users": f"#!/bin/sh\n{TRACE}",
        "b-writable": f"#!/bin/sh\n{TRACE}",
        "left~": f"#!/bin/sh\n{TRACE}",
        "x.dpkg-old": f"#!/bin/sh\n{TRACE}",
        "pre-first": f"#!/bin/sh\n{TRACE}",
        "z-last": f"#!/bin/sh\n{TRACE}cat /proc/self/cgroup >> /root/ran\n",
    }.items():
        vm.write_file(f"{PLUGINS}/{name}", text, mode=0o755)
    vm.run(f"chown admin1 {PLUGINS}/a-users; chmod o+w {PLUGINS}/b-writable; chmod -x {PLUGINS}/x.dpkg-old")
    vm.write_file("/etc/gandi/hooks/post-vm-config", f"#!/bin/sh\n{TRACE}", mode=0o755)
    vm.write_file("/usr/share/gandi/bootstrap.d/50-foreign", f"#!/bin/sh\n{TRACE}", mode=0o755)
    settings = vm.read_file("/etc/default/gandi").decode()
    vm.write_file("/etc/default/gandi", f"{settings}CONFIG_CRON=perhaps\nCONFIG_DISK_ONLY='$(id)*'\n")
    vm.run("! systemctl restart gandi-config.service")
    assert vm.read_file("/root/ran").decode().splitlines() == [
        *("10-first config", "20-x.sh /srv 1 $(id)*", "plain", "30-fails config", "python", "B config"),
        *("z-last config", "0::/system.slice/gandi-plugin-z-last.service", "post-vm-config "),
    ]
    items = {item["name"]: item for item in sample.items(vm, "config")}
    assert {
        name: items[name]["outcome"] for name in items if name in vm.output(f"ls {PLUGINS}").split()
    } == {
        **dict.fromkeys(("10-first", "20-x.sh", "40-python", "B", "z-last"), "changed"),
        **dict.fromkeys(("30-fails", "a-users", "b-writable"), "failed"),
    }
    assert "does not belong to root" in items["a-users"]["detail"]
    assert "can be written by others" in items["b-writable"]["detail"]
    assert "30-fails" in items["30-fails"]["detail"]
    assert "gandi-plugin-30-fails" in items["30-fails"]["hint"]
    said = vm.output("journalctl -b -o cat -t 10-first")
    assert said.splitlines() == ["words for the journal", "more"]

    assert vm.output("stat -c '%a %U' /run/gandi/settings.sh") == "600 root"
    vm.write_file("/etc/default/gandi", settings)
    by_hand = '. /etc/gandi/plugins-lib; load_config; echo "$CONFIG_DISK_ROOT,$CONFIG_DISK_ONLY"'
    assert vm.output(by_hand) == "/srv,"

    vm.run(f"rm /root/ran {PLUGINS}/*; systemctl restart gandi-bootstrap.service")
    assert vm.read_file("/root/ran").decode().splitlines() == ["50-foreign bootstrap"]
    assert sample.steps(vm, "bootstrap")["bootstrap.d"] == "changed"
    _one_that_never_ends(vm)


def _set_limit(vm: Machine, step: str, name: str, value: str) -> None:
    """Set a constant of a step on this machine. Fail if the step has no line for it."""
    place, line = f"/usr/lib/gandi-agent/agent/steps/{step}.py", f"{name} = {value}"
    vm.run(f"sed -i 's/^{name} = .*/{line}/' {place} && grep -qx '{line}' {place}")
    vm.run("systemctl restart gandi-agent")


def _one_that_never_ends(vm: Machine) -> None:
    """Its time limit of two minutes is shortened, on this machine only."""
    _set_limit(vm, "plugins", "TIMEOUT, TOTAL_TIMEOUT", "3.0, 5.0")
    for name in ("a", "b", "c", "d"):
        vm.write_file(
            f"{PLUGINS}/{name}", "#!/bin/sh\nexec sleep 1000\n" if name < "c" else TRACE, mode=0o755
        )
    vm.run("rm -f /root/ran; ! systemctl restart gandi-config.service")
    items = {
        item["name"]: item["detail"] for item in sample.items(vm, "config") if item["outcome"] == "failed"
    }
    assert set(items) == {"a", "b", "c", "d"}
    assert all("not run: those before it took 5 s" in items[name] for name in ("c", "d"))
    vm.run("! pgrep -x sleep; test -e /run/gandi/status.json; ! systemctl is-active gandi-plugin-a.service")


#: Each form of a script, the line that it writes, and its reported outcome.
FORMS = {
    "with an interpreter line": ("#!/usr/bin/python3\nopen('/root/left', 'w').write('python')\n", "python"),
    "without a line": ("echo $0 > /root/left; echo sh >> /root/left\n", "sh"),
    "that forks and stays": (
        "#!/bin/sh\nsetsid sh -c 'sleep 500' & echo $! > /root/left; echo stays >> /root/left\n",
        "stays",
    ),
    "that prints 100 MB": (
        # In long lines, by a program that makes one once: each line costs an emulated journald much.
        "#!/bin/sh\nyes $(printf '%039999d' 0) | head -c 104857600\necho printed > /root/left\n",
        "printed",
    ),
}


@pytest.mark.long
def test_scripts_of_every_form(vm: Machine) -> None:
    """Run again by the operator; a script that never ends delays nothing."""
    where = vm.output("ls -d /var/lib/gandi/instances/*/scripts")
    for form, (text, left) in FORMS.items():
        vm.write_file(f"{where}/script", text, mode=0o700)
        said = vm.output("gandi-agent rerun script", timeout=150)
        assert re.search(r"^scripts: changed \(script (exit status 0 after \d+ s|running since)", said), (
            form,
            said,
        )
        vm.wait_until("! systemctl is-active --quiet gandi-script.service", timeout=240)
        assert vm.read_file("/root/left").decode().split()[-1] == left, form
        assert vm.output("systemctl is-system-running") == "running"
        if "stays" in form:
            assert "are still running" in vm.run("gandi-agent rerun script", check=False).stderr
            vm.run("kill -0 $(head -1 /root/left) && pkill -x sleep")  # it is there
        vm.wait_until("! test -e /run/systemd/transient/gandi-script.service")
    # A binary; its arguments are the document's.
    vm.run(f"cp /usr/bin/touch {where}/script; gandi-agent rerun script")
    vm.run("ls /one '/two words' /three")
    vm.wait_until("! test -e /run/systemd/transient/gandi-script.service")
    assert len([line for line in sample.order(vm) if line.startswith("run")]) == 1 + len(FORMS) + 1
    _one_with_no_end(vm, where)


def _one_with_no_end(vm: Machine, where: str) -> None:
    """The agent's wait of a minute is shortened, on this machine only; test_first_boot waits in full."""
    _set_limit(vm, "script", "WAIT_TIMEOUT", "20.0")
    vm.write_file(f"{where}/script", "#!/bin/sh\necho begun > /root/left\nexec sleep 100000\n", mode=0o700)
    vm.run("rm /var/lib/gandi/instances/*/done/script-* /var/lib/gandi/instances/*/done/run-*")
    begun = vm.spawn("systemctl restart gandi-postboot.service", timeout=150)
    vm.wait_until("grep -q begun /root/left")
    waited = vm.run("gandi-agent status --wait=3", check=False, timeout=60)
    assert waited.rc == 2, waited.stdout
    said = waited.stdout.splitlines()[-1]
    blocker = "stage postboot: running, at scripts, waiting for script (at most 20 s), since "
    assert said.startswith(f"still running after 3 s: {blocker}"), waited.stdout
    vm.run("! gandi-agent rerun script")
    assert 20 < begun.result().seconds < 50
    assert "running since" in vm.output("systemctl status gandi-postboot.service")
    assert vm.output("systemctl is-system-running") == "running"
    assert "still runs" in vm.run("gandi-agent rerun script", check=False).stderr
    vm.run("systemctl kill gandi-script.service")
