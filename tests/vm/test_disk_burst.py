"""24 disks at once with hostile labels, 64 in ``make soak``: all mounted, none lost; twelve enlarged at
once; all removed at once while processes use three of them, many of these with hostile names. In between and
afterwards, the bytes that the verbs and the journal send to a terminal. 256 at once: test_disk_crowd.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

import pytest

from tests import crowd, labels
from tests.hostile import HARMLESS, LABELS, PROCESSES
from tests.vm.checks import private_memory
from tests.vm.rig import MIB, Bus, Disk, Machine

#: More than eight, as all numbers here: a virtio SCSI controller reports no more than that to the kernel at
#: a time, and the daemon handles no more.
ENLARGED = 12
LARGE = 64 * MIB
#: Seconds for each disk until all are mounted, or gone. Of 64, a busy host has taken more than four minutes.
BOUND = 10
#: Users of a disk that are named.
SHOWN = 5
#: Seconds that a detach may take beyond twice its time with harmless names: on a busy host, two equal runs
#: differ by half. A search that breaks off would wait for 20 s, and have found only some of the processes.
LONGER = 3.0
MOUNTED = "awk '$2 ~ \"^/srv/\" { print $1 }' /proc/mounts | sort -u | wc -l"


def filesystems(hostile: Iterable[bytes], count: int) -> list[tuple[str, bytes]]:
    """Return kind and label of each disk: every hostile label once, then harmless ones, until that many can
    be mounted.
    """
    found = []
    for number, label in enumerate(hostile):
        kinds = labels.kinds(label)
        found.append((kinds[number // 5 % len(kinds)] if number % 5 == 0 else kinds[0], label))
    more = count - sum(kind != "swap" for kind, _ in found)
    return [*found, *(("ext4", f"d{number}".encode()) for number in range(more))]


def on_terminal(vm: Machine, *words: str, rc: int = 0) -> tuple[str, float]:
    """Return the bytes that a verb sends to a terminal in the guest, and the seconds that it takes."""
    done = vm.run(["python3", "-c", crowd.TERMINAL, "gandi-agent", *words], check=False, timeout=120)
    assert done.rc == rc, done
    return done.raw.decode(), done.seconds


def crowded(vm: Machine, at: str, names: list[bytes], unit: str) -> None:
    """Start a unit with processes of these names that hold files of these names there."""
    vm.write_file("/root/names", b"".join(name + b"\0" for name in names))
    vm.write_file("/root/crowd.py", crowd.CROWD)
    out = f"/run/{unit}"
    how = f"-p StandardInput=file:/root/names -p StandardOutput=truncate:{out} -p WorkingDirectory=/"
    vm.run(["sh", "-c", f'systemd-run -q --unit={unit} {how} python3 /root/crowd.py "$1"', "sh", at])
    vm.wait_until(f"test $(wc -w < {out}) = {len(names)}", timeout=120, interval=1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "every"), [pytest.param(24, 3, id="24"), pytest.param(64, 1, id="64", marks=pytest.mark.soak)]
)
def test_disks_come_grow_and_go_at_once(count: int, every: int, booted: Machine, tmp_path: Path) -> None:
    """``every``: of how many hostile names one is used, the last of them always."""
    vm, processes = booted, PROCESSES[::-every]
    made = {f"d{number}": one for number, one in enumerate(filesystems(LABELS[::-every], count))}
    disks = [
        Disk(path=labels.make(tmp_path / name, *one), id=name, bus=Bus.SCSI, serial=name)
        for name, one in made.items()
    ]
    begun = time.monotonic()
    for disk in disks:
        vm.add_disk(disk)
    attached = time.monotonic() - begun
    vm.wait_until(f"test $({MOUNTED}) = {count}", timeout=BOUND * count, interval=2)
    print(f"{count} disks attached in {attached:.1f} s, mounted after {time.monotonic() - begun:.1f} s")
    assert vm.output("find /srv -mindepth 1 -maxdepth 1 -printf x") == "x" * count
    nodes = dict(line.split() for line in vm.output("lsblk -dno SERIAL,NAME | grep ^d").splitlines())
    _they_grow(vm, [name for name, (kind, _) in made.items() if kind == "ext4"][:ENLARGED], nodes)

    said, took = on_terminal(vm, "disks")
    print(f"disks: {took:.1f} s")
    assert HARMLESS.fullmatch(said)
    rows = [row for row in said.splitlines() if row.startswith("sd")]
    assert len(rows) == len(disks), "a line for each disk"
    assert sum("  mounted  " in row for row in rows) == count
    assert "does not answer" not in said
    said, took = on_terminal(vm, "status")
    print(f"status: {took:.1f} s")
    assert HARMLESS.fullmatch(said)

    mounts = {
        row["device"].removeprefix("/dev/"): row["mountpoint"] for row in vm.json("gandi-agent disks --json")
    }
    at, *_, one, other = (mounts[nodes[name]] for name, (kind, _) in made.items() if kind == "ext4")
    _a_crowd_is_named(vm, at, processes)

    # Not by a setting of the unit: systemd would stop it with the mount.
    for unit, line, place in (
        ("sits", "cd {} && exec sleep infinity", one),
        ("reads", "exec tail -f /dev/null 3>{}/file", other),
    ):
        vm.run(["systemd-run", "-q", f"--unit={unit}", "sh", "-c", line.format(quote(place))])
    vm.wait_until("pgrep -x tail && test $(readlink /proc/$(pgrep -x sleep)/cwd | cut -c1-5) = /srv/")
    for disk in disks:
        vm.qmp.call("device_del", id=f"{disk.id}-dev")
    vm.wait_until(
        '! grep -q " /srv/" /proc/mounts && test -z "$(ls -A /srv)"', timeout=BOUND * count, interval=2
    )
    assert vm.output("systemctl list-units --type=mount --no-legend 'srv-*'") == "", "no dead mount"
    assert vm.output("systemctl is-system-running") == "running"
    assert private_memory(vm) <= 16 * MIB
    status = vm.output("gandi-agent status")
    for unit, program in (("sits", "sleep"), ("reads", "tail")):
        process = vm.output(f"systemctl show -P MainPID {unit}.service")
        assert process in status, status
        assert program in status, status
    _what_is_printed_is_harmless(vm)


def _they_grow(vm: Machine, names: list[str], nodes: dict[str, str]) -> None:
    begun = time.monotonic()
    for name in names:
        vm.resize_disk(name, LARGE)
    large = " ".join(f"/dev/{nodes[name]}" for name in names)
    small = f"NR > 1 && $1 < {LARGE // 1024 * 8 // 10} {{ small = 1 }}"
    grown = f"df --output=size -B1K {large} | awk '{small} END {{ exit small }}'"
    vm.wait_until(grown, timeout=120, interval=1)
    print(f"{len(names)} disks grown in {time.monotonic() - begun:.1f} s")


def _a_crowd_is_named(vm: Machine, at: str, names: tuple[bytes, ...]) -> None:
    """A detach names the processes there, with hostile names as with others. They stay."""
    vm.run("mkdir /root/elsewhere")
    plain = [f"name{number}".encode() for number in range(len(names))]
    crowded(vm, "/root/elsewhere", plain, "elsewhere")
    crowded(vm, at, plain, "there")
    _, harmless = on_terminal(vm, "detach", at, rc=1)
    vm.run("systemctl stop there elsewhere")
    # For processes that do not use the disk, all mappings are read.
    crowded(vm, "/root/elsewhere", list(names), "elsewhere")
    crowded(vm, at, list(names), "there")
    said, took = on_terminal(vm, "detach", at, rc=1)
    print(f"detach: {took:.1f} s, with harmless names {harmless:.1f} s")
    assert took < 2 * harmless + LONGER
    assert HARMLESS.fullmatch(said)
    assert f"and {len(names) - SHOWN} more" in said


def _what_is_printed_is_harmless(vm: Machine) -> None:
    """Disks were removed while processes used them: the journal and the status name these."""
    vm.wait_until("gandi-agent status | grep -q 'removed while in use'", timeout=120, interval=2)
    for verb in ("status", "disks"):
        said, _ = on_terminal(vm, verb)
        assert HARMLESS.fullmatch(said)
        assert "held by " in said

    # The lines of the stage client, and everything in the journal from the agent.
    # It fails: a disk removed while in use is a failure.
    vm.run("systemctl restart gandi-mount", timeout=180, check=False)
    for asked in ("-t gandi-agent", "-u gandi-mount", "-u gandi-agent"):
        for form in ("cat", "export"):
            text = vm.run(f"journalctl -b --no-pager -a -o {form} {asked}", timeout=120).raw.decode()
            assert HARMLESS.fullmatch(text), (asked, form)
    assert "held by " in vm.run("journalctl -b -o cat -t gandi-agent").stdout
    assert "unexpected" not in vm.run("journalctl -b -o cat -t gandi-agent").stdout
    assert HARMLESS.fullmatch(vm.run("systemctl show -P StatusText gandi-agent").raw.decode())
