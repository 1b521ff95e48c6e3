"""What a machine must say of a fault, and what it must be once that is over."""

from __future__ import annotations

from agent.systemd.journal import Message
from tests.vm import checks, sample
from tests.vm.rig import Machine

#: The sample's programs with their marks: each runs once, and has ended when its line is there.
PROGRAMS = {"script": "script one two words three in /", "run": "run in /"}
MARKS, UNIT = "/var/lib/gandi/instances/*/done", "gandi-script.service"
#: Names of files that are being written.
UNFINISHED = (
    "find /etc /home /root /var/lib/gandi"
    " -name '*.gandi-*' -o -name '*.lock' ! -name .pwd.lock -o -name '*+' ! -path '*/alternatives/*'"
)
#: Temporary names of files that replace others: the agent's, and those of shadow's programs.
LEFT = (
    "find / -xdev ( -name *.gandi-*-* -o -name *.gandi-???????? -o "
    "-path /etc/passwd.[0-9]* -o -path /etc/group.[0-9]* -o -path /etc/*shadow.[0-9]* )"
)
#: Seconds until a failure is reported.
SOON = 60


def is_named(vm: Machine, words: str, begun: str, *, unless: str = "false", also: str = "") -> None:
    """Check that what failed since then (Unix time) is reported with the system's error text (a pattern),
    ``unless`` that condition holds. ``also`` is one more unit that may report it.
    """
    # With the output of the programs that it has started in transient units.
    journal = f"journalctl -b -q -o cat --since=@{begun} -u gandi-*" + (f" -u {also}" if also else "")
    named = f"{{ {journal} | grep -qE '{words}' || gandi-agent disks 2>&1 | grep -qE '{words}'; }}"
    vm.wait_until(f"{{ {unless}; }} || {named}", timeout=SOON, interval=1)
    said = vm.run("gandi-agent status", check=False)
    assert said.rc in (0, 1, 2), said.stderr
    assert "Traceback" not in said.stderr


def is_set_up(vm: Machine) -> None:
    """Check that the machine is as in its document."""
    said = vm.run("gandi-agent status", check=False)
    assert said.rc == 0, said.stdout
    assert vm.output("hostname") == "vm1"
    vm.wait_until("ip -br addr | grep -q 203.0.113.10/24")
    vm.run("swapon --show=NAME --noheadings | grep -q /dev/")
    vm.wait_until("grep -q ^run /root/order")
    assert [line.split()[0] for line in sample.order(vm)] == ["script", "run"]
    keys = vm.read_file("/home/admin1/.ssh/authorized_keys").decode().split("\n")
    assert keys == [sample.KEY, sample.OTHER_KEY, ""]
    assert f"admin1:{sample.HASH}:" in vm.read_file("/etc/shadow").decode()
    assert vm.output("stat -c %a /gandi/config") == "600"


def nothing_left(vm: Machine) -> None:
    """Check that no temporary file is left."""
    assert vm.output(LEFT.split()) == ""


def no_defect(vm: Machine) -> None:
    """Check that nothing failed in this boot in a way that the agent does not know."""
    assert vm.run(f"journalctl -b -q -o cat MESSAGE_ID={Message.DEFECT}", check=False).stdout == ""
    assert vm.run("journalctl -b -q -o cat -u gandi-* | grep -A20 ^Traceback", check=False).stdout == ""


def ends_right(vm: Machine) -> None:
    """Check the machine, and that nothing is left of what the cut has interrupted."""
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until(f"test -e {MARKS}/run-* && ! systemctl is-active {UNIT}")
    for check in (
        checks.names,
        checks.accounts,
        checks.resolvers,
        checks.addresses,
        checks.swap,
        checks.grown,
    ):
        check(vm)
    assert vm.output("gandi-agent status --format=short").endswith(", nothing failed")
    assert vm.output(UNFINISHED) == ""
    _ran_once(vm)


def _ran_once(vm: Machine) -> None:
    """Check that no program ran twice, and each at this boot unless it had been started before the cut."""
    ran = vm.output("test ! -e /root/order || cat /root/order").splitlines()
    assert len(set(ran)) == len(ran), ran
    booted = int(vm.output("awk '$1 == \"btime\" { print $2 }' /proc/stat"))
    for name, line in PROGRAMS.items():
        marked = int(vm.output(f"stat -c %Y {MARKS}/{name}-*"))
        assert line in ran or marked < booted, (name, ran)
