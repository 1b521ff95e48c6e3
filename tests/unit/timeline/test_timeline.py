"""The timeline of a recorded boot, boot/: as text, as JSON, as a drawing."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from agent.lib.records import replace
from agent.timeline import assembled, critical, drawing, recorded, text
from agent.timeline.assembled import Records, Timeline

BOOT = Path(__file__).parent / "boot"
SVG = "{http://www.w3.org/2000/svg}"


def records() -> Records:
    """Return the records of the boot: the kernel started at Unix time 1000."""
    read = {
        name: (BOOT / name).read_text() for name in ("manager", "units", "journal", "kernel", "programs")
    }
    status = json.loads((BOOT / "status.json").read_text())
    return Records(**read, status=status, ready={"vdc": 19.95}, disk_root="/srv/", offset=1000.0)


@pytest.fixture
def found() -> Timeline:
    """The timeline of the boot."""
    return assembled.timeline(records())


def test_the_text_is_that_of_the_golden_file(found: Timeline) -> None:
    shown = "".join(f"{line}\n" for line in text.render(found))
    assert shown == (BOOT / "timeline.txt").read_text()
    assert max(map(len, shown.split("\n"))) <= 80


def test_the_parts_of_the_path_add_up(found: Timeline) -> None:
    assert critical.total(found.path) == pytest.approx(found.reached) == 4.0
    for before, part in itertools.pairwise(found.path):
        assert part.begin == pytest.approx(before.end + part.waited)


def test_the_path_names_what_each_unit_waited_for(found: Timeline) -> None:
    """Through a unit that a condition skipped, and one that was restarted since."""
    assert [part.name for part in found.path] == [
        *("kernel", "initrd", "systemd", "system.slice", "systemd-journald.service"),
        *("gandi-check.service", "gandi-bootstrap.service", "network.target", "ssh.service"),
    ]


def test_a_device_that_was_waited_for_is_on_the_path() -> None:
    """systemctl lists a device by one of its names, and another one is in After= of a mount."""
    times = (f"{name}TimestampMonotonic=3050500\n" for name in ("InactiveExit", "ActiveEnter"))
    late = f"\nId=dev-vda1.device\n{''.join(times)}"
    shown = records().units.replace("After=network.target", "After=network.target boot.mount")
    shown = shown.replace("=1800000", "=3100500").replace("=1900000", "=3150000")
    assert critical.devices(recorded.units(shown)) == ["dev-vda1.device"]
    found = assembled.timeline(replace(records(), units=shown + late))
    assert [part.name for part in found.path][-3:] == ["dev-vda1.device", "boot.mount", "ssh.service"]
    assert critical.total(found.path) == pytest.approx(4.0)


def test_a_restarted_ssh_has_the_time_of_its_first_start() -> None:
    restarted = re.sub(
        r"(?s)(Id=ssh.service.*?InactiveExit\w+=)3200000(\n\w+=)4000000",
        r"\g<1>50000000\g<2>51000000",
        records().units,
    )
    times = {"3200000": recorded.STARTING, "4000000": recorded.STARTED}
    first = "".join(
        json.dumps({"__MONOTONIC_TIMESTAMP": at, "MESSAGE_ID": message, "UNIT": "ssh.service"}) + "\n"
        for at, message in times.items()
    )
    found = assembled.timeline(replace(records(), units=restarted, journal=first + records().journal))
    assert found.reached == 4.0
    assert critical.total(found.path) == pytest.approx(4.0)


def test_with_a_socket_ssh_is_reachable_by_it() -> None:
    listening = records().units.replace(
        "Id=ssh.socket\nAfter=\nInactiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=0",
        "Id=ssh.socket\nAfter=\nInactiveExitTimestampMonotonic=1800000\nActiveEnterTimestampMonotonic=1800000",
    )
    found = assembled.timeline(replace(records(), units=listening))
    assert (found.goal, found.reached) == ("ssh.socket", 1.8)
    assert critical.total(found.path) == pytest.approx(1.8)


def test_without_the_journal_the_status_has_the_times() -> None:
    """As for a user who may not read it."""
    found = assembled.timeline(replace(records(), journal="", kernel=""))
    times = [(stage.name, round(stage.begin, 3), stage.end) for stage in found.stages]
    assert times == [("bootstrap", 2.4, 3.0), ("mount", 4.1, 4.4)]
    assert {event.device: event.is_rough for event in found.events} == {"cpu": True, "vdc": True}
    assert critical.total(found.path) == pytest.approx(found.reached)
    assert not found.scripts


def test_nothing_recorded_is_told() -> None:
    nothing = Records("", "", "", "", {}, "", {}, "/srv", 0.0)
    lines = list(text.render(assembled.timeline(nothing)))
    assert lines == [
        "none of ssh.service, sshd.service, ssh.socket, sshd.socket was started in this boot",
        "no stage has ended in this boot: nothing was new, or see gandi-agent status",
    ]
    ET.fromstring(drawing.svg(assembled.timeline(nothing)))


def test_units_that_wait_for_each_other_end_the_path() -> None:
    """systemd breaks such a circle; both then have times."""
    one = recorded.Unit("ssh.service", 2.0, 3.0, after=("two.service",))
    two = recorded.Unit("two.service", 2.0, 2.0, after=("three.service",))
    three = recorded.Unit("three.service", 2.0, 2.0, after=("two.service",))
    units = {unit.name: unit for unit in (one, two, three)}
    assert [unit.name for unit in critical.chain(units, one, 0.0)] == [
        "three.service",
        "two.service",
        "ssh.service",
    ]
    assert critical.candidates(units) == units.keys()


# -- the drawing ---------------------------------------------------------------------------------


def test_the_drawing_needs_nothing_else(found: Timeline) -> None:
    drawn = drawing.svg(found)
    tree = ET.fromstring(drawn)
    assert {element.tag for element in tree.iter()} == {
        SVG + name for name in ("svg", "title", "style", "rect", "text")
    }
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"url\(|@import|href|on\w+=", drawn)
    light, dark = drawn.split("@media")
    for name in {str(rect.get("class")) for rect in tree.iter(SVG + "rect")}:
        assert f".{name} {{" in light
        assert f".{name} {{" in dark


def test_texts_of_others_stay_texts(found: Timeline) -> None:
    hostile = "</text><script>alert(1)</script>\x1b[2J&\ud800"
    events = tuple(replace(event, device=hostile, text=hostile) for event in found.events)
    path = tuple(replace(part, name=hostile, note=hostile) for part in found.path)
    tree = ET.fromstring(drawing.svg(replace(found, events=events, path=path, notes=(hostile,))))
    assert not list(tree.iter(SVG + "script"))
    assert any(str(one.text).startswith("</text>") for one in tree.iter(SVG + "text"))


def test_no_two_rows_of_the_drawing_overlap(found: Timeline) -> None:
    """Nor is anything outside it."""
    long = tuple(replace(part, name="w" * 300) for part in found.path)
    tree = ET.fromstring(drawing.svg(replace(found, path=long)))
    width, height = (float(str(tree.get(name))) for name in ("width", "height"))
    names = [one for one in tree.iter(SVG + "text") if str(one.get("class")).startswith("end")]
    lines = sorted(float(str(one.get("y"))) for one in names)
    assert all(below - above >= 18 for above, below in itertools.pairwise(lines))
    assert all(len(str(one.text)) * 7.6 <= float(str(one.get("x"))) for one in names), (
        "wider than its column"
    )
    for one in tree.iter(SVG + "rect"):
        x, y, wide, high = (float(str(one.get(name))) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + wide <= width
        assert y + high <= height
