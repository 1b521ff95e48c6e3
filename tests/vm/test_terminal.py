"""Hostile text in a real guest: sixty filesystems with such labels and fifty processes with such names, and
the bytes that the verbs and the journal send to a terminal.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import crowd, labels
from tests.hostile import HARMLESS, LABELS, PROCESSES
from tests.vm.rig import MIB, Bus, Disk, Machine, make_disk, make_table
from tests.vm.rig.command import run

#: Each label once; a hundred disks are in tests/system.
DISKS, PARTITIONS = 3, 20
#: Seconds that a detach may take beyond twice its time with harmless names: on a busy host, two equal runs
#: differ by half. A search that breaks off would wait for 20 s, and have found only some of the processes.
LONGER = 3.0


def disk(path: Path, first: int) -> tuple[Path, int]:
    """Attach a disk of 20 filesystems with the labels from number ``first``; return how many can
    be mounted.
    """
    table, place, mountable, made = ["label: gpt"], MIB, 0, []
    for number in range(first, first + PARTITIONS):
        label = LABELS[number % len(LABELS)]
        kinds = labels.kinds(label)
        fstype = kinds[number // 5 % len(kinds)] if number % 5 == 0 else kinds[0]
        made.append((labels.make(path.with_name(f"{number}.img"), fstype, label), place))
        size = labels.SIZE[fstype]
        table.append(f"start={place // 512}, size={size // 512}")
        place += size
        mountable += fstype != "swap"
    make_table(make_disk(path, place + MIB), "\n".join(table))
    for image, at in made:
        run(["dd", f"if={image}", f"of={path}", "bs=1M", f"seek={at // MIB}", "conv=notrunc,sparse"])
        image.unlink()
    return path, mountable


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
def test_labels_and_names_of_others(booted: Machine, tmp_path: Path) -> None:
    vm, mountable = booted, 0
    disks = []
    for number in range(DISKS):
        path, more = disk(tmp_path / f"disk{number}", number * PARTITIONS)
        mountable += more
        disks.append(Disk(path=path, id=f"disk{number}", bus=Bus.SCSI))
        vm.add_disk(disks[-1])
    vm.wait_until(f"test $(grep -c ' /srv/' /proc/mounts) = {mountable}", timeout=300, interval=2)

    print(f"{mountable} mounted, {vm.output('uptime')}")
    said, took = on_terminal(vm, "disks")
    print(f"disks: {took:.1f} s")
    assert HARMLESS.fullmatch(said)
    rows = [row for row in said.splitlines() if row.startswith("sd")]
    assert len(rows) == DISKS * (PARTITIONS + 1), "a line for each disk and partition"
    assert sum("  mounted  " in row for row in rows) == mountable
    assert "does not answer" not in said
    said, took = on_terminal(vm, "status")
    print(f"status: {took:.1f} s")
    assert HARMLESS.fullmatch(said)

    rows = json.loads(vm.run("gandi-agent disks --json").stdout)
    at = next(row["mountpoint"] for row in rows if row["fstype"] == "ext4" and row["mountpoint"])
    vm.run("mkdir /root/elsewhere")
    plain = [f"name{number}".encode() for number in range(len(PROCESSES))]
    crowded(vm, "/root/elsewhere", plain, "elsewhere")
    crowded(vm, at, plain, "there")
    _, harmless = on_terminal(vm, "detach", at, rc=1)
    vm.run("systemctl stop there elsewhere")
    # For processes that do not use the disk, all mappings are read.
    crowded(vm, "/root/elsewhere", list(PROCESSES), "elsewhere")
    crowded(vm, at, list(PROCESSES), "there")
    said, took = on_terminal(vm, "detach", at, rc=1)
    print(f"detach: {took:.1f} s, with harmless names {harmless:.1f} s")
    assert took < 2 * harmless + LONGER
    assert HARMLESS.fullmatch(said)
    assert "and 45 more" in said

    # The disk is removed while they use it: the journal and the status name them.
    taken = next(
        disk for disk, row in zip(disks, rows[:: PARTITIONS + 1], strict=True) if _has(rows, row, at)
    )
    vm.qmp.call("device_del", id=f"{taken.id}-dev")
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


def _has(rows: list[dict[str, str]], disk: dict[str, str], at: str) -> bool:
    return any(row["mountpoint"] == at and row["device"].startswith(disk["device"]) for row in rows)
