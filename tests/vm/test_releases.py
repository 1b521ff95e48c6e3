"""The package's core promises on each release of Debian, and on arm64. README.md's table is made of what
these tests find.

All other tests run on Debian 13. ``make test`` has the smoke of the others, ``make test-all`` the rest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import drives
from tests.vm import checks, delivered, nextversion, plugged, releases, sample
from tests.vm.conftest import Rig
from tests.vm.plugging import Plugged
from tests.vm.releases import BOOKWORM, NAMES, TESTING, Shown, Target
from tests.vm.rig import GIB, Architecture, Machine, Nic, Release, newest_deb
from tests.vm.test_settled import NOTHING_NEW, at_rest, said

#: In doubt every stage runs: on a busy host, udev may take longer than the check waits.
BOOTS = 3
#: In no document.
NEW_NIC = Nic(id="other", mac=plugged.OTHER, backend="user,restrict=on,net=10.9.0.0/24")
#: Lines of PID 1 about units of the agent; the only ones are of keys that are for a later systemd.
COMPLAINTS = (
    "journalctl -b -o cat --no-pager _PID=1 | grep gandi | grep -E 'ignoring|[Ff]ailed|Unknown|cycle'"
)
YOUNGER = {252: ("'OpenFile'", "'RestartSteps'", "'RestartMaxDelaySec'")}
#: A boot waits so many seconds for the disks, and an emulated machine of another architecture takes longer.
SLOW = "gandi-disks.target: Job gandi-disks.target/start failed with result 'timeout'."
#: What the machine is, and what the administrator and the document have made of it.
IDENTITY = (
    "hostname; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /etc/default/gandi; "
    "grep admin1 /etc/passwd /etc/shadow"
)
UPGRADE = (
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-download -o Dpkg::Options::=--force-confold "
    "-o Dpkg::Options::=--force-unsafe-io full-upgrade"
)
STAGES = (
    "systemctl show -P ActiveEnterTimestampMonotonic gandi-bootstrap gandi-mount gandi-config gandi-postboot"
)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    """The record of the release."""
    return Shown(request.getfixturevalue("target"))


@pytest.mark.long
@pytest.mark.parametrize("target", [BOOKWORM, pytest.param(TESTING, marks=pytest.mark.variant)], ids=str)
def test_a_first_boot_and_a_disk(machine: Rig, target: Target, shown: Shown, tmp_path: Path) -> None:
    vm = _first_boot(machine, target, shown, tmp_path)
    _disk(vm, shown, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", list(NAMES), ids=str)
def test_the_core_promises(machine: Rig, target: Target, shown: Shown, tmp_path: Path) -> None:
    """One guest, from its first boot to the upgrade of the package."""
    vm = _first_boot(machine, target, shown, tmp_path)
    _disk(vm, shown, tmp_path)
    with shown.promise(releases.NIC):
        vm.add_nic(NEW_NIC)
        vm.wait_until("ip -o addr | grep -q 'inet 10.9.0.'", timeout=90)
        vm.remove_nic(NEW_NIC.id)
        vm.wait_until("! ls /etc/systemd/network | grep -q gandi-dhcp", timeout=60)
        _addressed(vm)
    kept = Plugged(vm, tmp_path, "kept")
    with shown.promise(releases.LATER_BOOT):
        kept.attach()
        kept.is_right()
        for _ in range(BOOTS):
            at_rest(vm)
            vm.run("sync")
            vm.reboot(timeout=delivered.BOOT_TIMEOUT)
            assert vm.wait_booted(delivered.BOOT_TIMEOUT) == "running"
            if said(vm) == NOTHING_NEW:
                break
        assert said(vm) == NOTHING_NEW
        assert vm.output("systemctl show -P ConditionResult gandi-config") == "no"
        vm.wait_until("mountpoint -q /srv/kept && swapon --noheadings --show=NAME | grep -q /dev/vd")
        assert not _complaints(vm)
        _addressed(vm)
    with shown.promise(releases.UPGRADE):
        vm.run("exec 7>/srv/kept/file; echo content >&7")
        mount, stages = vm.output("grep ' /srv/kept ' /proc/self/mountinfo"), vm.output(STAGES)
        vm.write_file("/root/next.deb", nextversion.build(newest_deb(), tmp_path).read_bytes())
        vm.run("dpkg -i /root/next.deb", timeout=900)
        assert nextversion.VERSION in vm.output("gandi-agent --version")
        assert vm.output("grep ' /srv/kept ' /proc/self/mountinfo") == mount
        assert vm.output(STAGES) == stages
        kept.grow()
        kept.is_right()
        assert vm.output("systemctl is-system-running") == "running"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", list(NAMES), ids=str)
def test_a_configuration_drive(machine: Rig, target: Target, shown: Shown, tmp_path: Path) -> None:
    with shown.promise(releases.DRIVE):
        iso = drives.make_iso(tmp_path / "1.iso", drives.native(delivered.NATIVE), "gandi")
        vm = delivered.boot(machine, releases.image(target), delivered.drive(iso), spec=target.spec)
        delivered.named(vm, "nd1")
        assert delivered.keys(vm, "/home/admin1") == [sample.KEY]
        _addressed(vm)
        delivered.scripted(vm)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", [BOOKWORM], ids=str)
def test_the_next_release(machine: Rig, target: Target, shown: Shown, tmp_path: Path) -> None:
    """apt full-upgrade while a disk is mounted and another one is released; then a boot. The kernel stays
    that of before, which the rig starts.
    """
    with shown.promise(releases.NEXT_RELEASE):
        image = releases.image_before(target, Release.TRIXIE)
        swap = sample.swap_disk(tmp_path, script=sample.SHORT_SCRIPT)
        vm = machine.start(image, replace(sample.SPEC, memory=1024, root_size=4 * GIB), disks=[swap])
        assert vm.wait_booted() == "running"
        vm.wait_until("grep -q ^run /root/order")
        kept, given, later = (Plugged(vm, tmp_path, label) for label in ("kept", "given", "later"))
        for disk in (kept, given):
            disk.attach()
            disk.is_right()
        vm.run("exec 7>/srv/kept/file; echo content >&7; gandi-agent detach given")
        mount, before = vm.output("grep ' /srv/kept ' /proc/self/mountinfo"), vm.output(IDENTITY)

        vm.run(f"{UPGRADE} > /root/log 2>&1 || {{ tail -30 /root/log; exit 1; }}", timeout=3000)
        assert vm.output("dpkg -l gandi-agent python3-pydantic-core | grep -c ^ii") == "2"
        assert vm.run("dpkg -s gandi-agent-core", check=False).rc != 0
        assert vm.output("grep ' /srv/kept ' /proc/self/mountinfo") == mount
        vm.run("! mountpoint -q /srv/given")
        later.attach()
        later.is_right()
        vm.run("! mountpoint -q /srv/given; gandi-agent config validate /gandi/config")
        # What the rig runs in the guest is compiled for one Python.
        vm.run("python3 -m compileall -q -b /usr/lib/rig; sync")

        vm.reboot()
        assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend")
        assert vm.output("systemctl --version").split()[1] == "257"
        # A release ends with the boot.
        vm.wait_until("mountpoint -q /srv/kept && mountpoint -q /srv/given && mountpoint -q /srv/later")
        assert vm.read_file("/srv/kept/file") == b"content\n"
        assert vm.output(IDENTITY) == before
        _addressed(vm)
        assert sample.order(vm) == ["script one two words three in /", "run in /"], "once for each instance"
        assert not _complaints(vm)


def test_the_table_has_what_was_found_and_keeps_the_rest() -> None:
    page = f"head\n{releases.BEGIN}{releases.END}tail\n"
    first = releases.table(page, {BOOKWORM: {releases.DISK: "2026-01-02", releases.NIC: "2026-01-02"}})
    again = releases.table(first, {TESTING: {releases.DISK: "failed 2026-01-03"}})
    lines = [line for line in again.splitlines() if line.startswith(f"| {releases.DISK} |")]
    assert len(lines) == 1
    assert [cell.strip() for cell in lines[0].split("|")[2:5]] == ["2026-01-02", "-", "failed 2026-01-03"]
    assert again.startswith("head\n")
    assert again.endswith(f"{releases.END}tail\n")
    assert releases.table(again, {}) == again
    readme = releases.README.read_text()
    assert releases.table(readme, {}) == readme, "edited by hand, or with other rows: make test-all"


def _first_boot(machine: Rig, target: Target, shown: Shown, folder: Path) -> Machine:
    swap = sample.swap_disk(folder, script=sample.SHORT_SCRIPT)
    with shown.promise(releases.FIRST_BOOT):
        vm = machine.start(releases.image(target), target.spec, disks=[swap])
        state = vm.wait_booted(delivered.BOOT_TIMEOUT)
        shown.versions(vm)
        assert state == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
        assert vm.output("hostname") == "vm1"
        assert "27(sudo)" in vm.output("id admin1")
        assert sample.KEY in delivered.keys(vm, "/home/admin1")
        assert vm.output("swapon --noheadings --show=NAME") == "/dev/vdb"
        assert int(vm.output("df --output=size -B1M / | tail -1")) > 2500
        vm.wait_until("grep -q ^run /root/order")
        assert sample.order(vm) == ["script one two words three in /", "run in /"]
        _addressed(vm)
        assert not _complaints(vm)
        # By the daemon, to which the stages' units have connected.
        assert "running the stage here" not in vm.output("journalctl -b -o cat --no-pager -u 'gandi-*'")
    return vm


def _addressed(vm: Machine) -> None:
    """Check the sample's addresses and routes, for which no boot waits that has nothing to run."""
    there = " && ".join(f"ip -{family} route show default | grep -q via" for family in (4, 6))
    vm.wait_until(f"{there} && ! ip -6 addr | grep -q tentative", timeout=60)
    checks.addresses(vm)


def _disk(vm: Machine, shown: Shown, folder: Path) -> None:
    with shown.promise(releases.DISK):
        disk = Plugged(vm, folder, "data")
        for _ in range(3):
            disk.next()
            disk.is_right()


def _complaints(vm: Machine) -> list[str]:
    """Return what PID 1 has against the agent's units, but for keys that this version does not have: see
    gandi-connect and the units for what takes their place.
    """
    version = int(vm.output("systemctl --version").split()[1])
    lines = vm.run(COMPLAINTS, check=False).stdout.splitlines()
    expected = list(YOUNGER.get(version, ()))
    if vm.image.architecture is not Architecture.AMD64:
        expected.append(SLOW)
    return [line for line in lines if not any(text in line for text in expected)]
