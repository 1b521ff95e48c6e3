"""The kernel, udev, peers on the agent's socket, and the agent's own records, which may be damaged."""

from __future__ import annotations

import json
import selectors
import socket
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from agent.block import mounts
from agent.config import model
from agent.daemon import control_socket
from agent.disks.base.record import Records
from agent.lib.errors import HostError
from agent.lib.records import replace
from agent.lib.text import printable
from agent.network import ethtool_netlink, gateways
from agent.report import StatusFile
from agent.state import json_file
from agent.timeline import assembled, drawing, recorded
from agent.timeline import text as timeline_text
from agent.udev import database, monitor
from tests.fuzz.target import Target, as_text, machine, with_file
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import DOCUMENT
from tests.unit.timeline.test_timeline import records as boot_records

#: The folder of the socket pair's peers is the process: no other user can reach it.
DEVPATH = "/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb"


def _uevent(data: bytes) -> None:
    """A message is one device's, or none."""
    event = monitor.parse(data)
    if event is not None:
        assert event.devpath
        assert event.seqnum >= 0
        assert "/" not in event.sysname


def _message(properties: str) -> bytes:
    text = properties.replace("\n", "\0").encode()
    size = monitor._HEADER.size
    return monitor._HEADER.pack(b"libudev\0", monitor._MAGIC, size, size, len(text)) + bytes(16) + text


def _udev_record(data: bytes) -> None:
    host = with_file("/run/udev/data/b254:16", data)
    with_file(f"/sys/{DEVPATH}/dev", b"254:16\n")
    with_file(f"/sys/{DEVPATH}/uevent", data)
    with_file("/sys/class/block/vdb/dev", b"254:16\n")
    with_file("/sys/class/block/vdb/uevent", data)
    with_file("/run/udev/tags/gandi/b254:16", b"")
    found = database.block(host, "vdb")
    assert all(found.values())
    for key, properties in database.tagged(host, "gandi"):
        assert key == "b254:16"
        assert all(properties.values())


def _mountinfo(data: bytes) -> None:
    """A line is one mount, whatever a user has written into its source."""
    mounts._mount.cache_clear()
    found = [mounts._mount(line) for line in as_text(data).split("\n")]
    for mount in filter(None, found):
        assert mount.fstype is not None
        assert len(mount.devnos) == 1
    host = with_file("/proc/swaps", data)
    assert len(mounts.swap_names(host)) <= data.count(b"\n") + 1


def _socket(data: bytes) -> None:
    """A peer's bytes are one request of a line, or the end of its connection."""
    requests = list[str]()
    ours, theirs = socket.socketpair()
    listener, selector = socket.socket(socket.AF_UNIX), selectors.DefaultSelector()
    with ours, theirs, listener, selector:
        server = control_socket.Server(listener, selector, lambda _peer, line: requests.append(line))
        ours.settimeout(0)
        peer = control_socket.Connection(ours, 1.0)
        server.connections.append(peer)
        selector.register(ours, selectors.EVENT_READ)
        # The first byte has the size of the pieces in which the others arrive.
        step = (data[0] if data else 0) + 1
        for place in range(1, len(data), step):
            if peer in server.connections:
                theirs.send(data[place : place + step])
                server._ready(peer)
        server.tick(2.0)
        assert len(requests) <= 1
        assert all(line.isascii() or "\ufffd" in line for line in requests)
        assert all("\n" not in line and len(line) < 2 * control_socket.REQUEST_LIMIT for line in requests)
        assert peer not in server.connections or peer.deadline is None


def _netlink(data: bytes) -> None:
    """Lengths of zero and beyond the end do not keep a reader for ever."""
    assert len(list(gateways._kinds(data))) <= len(data)
    for _, body in ethtool_netlink._messages(data):
        assert len(body) <= len(data)
        for inner in ethtool_netlink._attributes(body).values():
            ethtool_netlink._attributes(inner)


def _netlinks() -> Iterable[bytes]:
    attribute = struct.pack("=HHI", 8, 1, 7) + struct.pack("=HH", 5, 2) + b"x\0\0\0"
    head = struct.pack("=IHHII", 16 + len(attribute), 24, 0, 1, 0)
    return [(head + attribute) * 2]


def _status(data: bytes) -> None:
    """A damaged document is an empty one: each section is there."""
    found = StatusFile(with_file("/run/gandi/status.json", data)).read()
    for section in ("stages", "devices", "work", "notes"):
        assert isinstance(found[section], dict)


def _disk_record(data: bytes) -> None:
    """A damaged record counts as missing."""
    host = with_file("/run/gandi/disks/vdb.json", data)
    records = Records(machine())
    for known in (records.get("vdb"), *records.all().values()):
        if known is not None:
            assert known.devnos <= {known.devno, known.alias}
            assert isinstance(known.is_done, bool)
            assert known.filesystem.mountpoint == known.mountpoint
            assert known.cleared().services == ()
    assert host is machine()


def _stored(data: bytes) -> None:
    json_file.load(with_file("/var/lib/gandi/stored.json", data), "/var/lib/gandi/stored.json")


def _config(data: bytes) -> None:
    """A stored document is whole, or damaged."""
    config = model.load(data)
    assert model.load(model.dump(config)) == config


def _configs() -> Iterable[bytes]:
    from agent.reader.dialects import gandi, native

    for parse, files in (
        (native.parse_files, drives.native()),
        (gandi.parse_files, {"gandi/config": json.dumps(DOCUMENT).encode()}),
    ):
        config = parse(files).config
        assert config is not None
        yield model.dump(config)


def _journal(data: bytes) -> None:
    text = as_text(data)
    for entry in recorded.entries(text):
        assert entry.at >= 0
    recorded.manager(text)
    for name, unit in recorded.units(text).items():
        assert unit.name == name


def _timeline(data: bytes) -> None:
    """The drawing is XML, and the text has no end of a line but its own, whatever the journal has."""
    texts = [as_text(part) for part in data.split(b"\0")]
    units, journal, kernel, programs, *_ = [*texts, "", "", "", ""]
    found = assembled.timeline(
        replace(boot_records(), units=units, journal=journal, kernel=kernel, programs=programs)
    )
    ET.fromstring(drawing.svg(found))
    for line in timeline_text.render(found):
        assert "\n" not in line
        assert printable(line).isprintable()


def _boot() -> Iterable[bytes]:
    found = boot_records()
    return ["\0".join((found.units, found.journal, found.kernel, found.programs)).encode()]


_JOURNAL = (
    b'{"MESSAGE":"Started x.service - y.","MESSAGE_ID":"39f53479d3a045ac8e11786248231fbf",'
    b'"UNIT":"x.service",'
    b'"__MONOTONIC_TIMESTAMP":"3000000","_SOURCE_MONOTONIC_TIMESTAMP":"2999000","_PID":["1","2"]}\n'
)
_UNITS = (
    b"Id=x.service\nAfter=a.service b.mount\nInactiveExitTimestampMonotonic=5\nWhat=/dev/vdb\n\nId=y.mount\n"
)
_MOUNTINFO = (
    b"25 30 254:16 / /srv/a\\040b rw,relatime shared:1 - ext4 /dev/vdb rw\n"
    b"26 30 0:33 /@ /srv/b rw - btrfs /dev/vdc rw,subvol=/@\n27 30 0:40 / /x rw master:1 - fuse.x - y rw\n"
)
_RECORD = (
    b'{"disk":"vdb","diskseq":"7","uuid":"u","label":"data","devno":"254:16","mountpoint":"/srv/data",'
    b'"state":"mounted","services":["nginx.service"],"pid":1,"started":2,"fstype":"ext4"}'
)
_STATUS = (
    b'{"version":1,"stages":{"bootstrap":{"state":"done","steps":[{"name":"x","seconds":1,"items":[]}]}},'
    b'"devices":{"vdb":{"outcome":"changed"}},"work":{},"notes":{"settings":[]}}'
)
_JSON = (b"null", b"[]", b"{}", b"Infinity", b"1e999", b'"\\ud800"', b"[[[[[[[[", b"true")

TARGETS = (
    Target(
        "uevent",
        _uevent,
        lambda: [
            _message(f"ACTION=change\nDEVPATH={DEVPATH}\nSUBSYSTEM=block\nSEQNUM=7\nTAGS=:gandi:\nRESIZE=1")
        ],
        (),
        (b"libudev\0", b"DEVPATH=", b"SEQNUM=", b"\0", b":gandi:"),
    ),
    Target(
        "udev-record",
        _udev_record,
        lambda: [
            b"S:disk/by-label/data\nI:77\nE:ID_FS_LABEL_ENC=a\\x20b\nE:GANDI_ROLE=disk\nG:gandi\nV:1\n"
        ],
        (),
        (b"E:", b"S:", b"I:", b"DEVNAME=", b"\\x"),
    ),
    Target("mountinfo", _mountinfo, lambda: [_MOUNTINFO], (), (b" - ", b"\\040", b"\\134", b" ")),
    Target("control-socket", _socket, lambda: [b"\xffping\n", b"\x04stage bootstrap\n"], (), (b"\n",), 512),
    Target("netlink", _netlink, _netlinks, largest=1024),
    Target("status-file", _status, lambda: [_STATUS], (), _JSON, is_json=True),
    Target("disk-record", _disk_record, lambda: [_RECORD], (), _JSON, is_json=True),
    Target("stored-json", _stored, lambda: [b'{"version":1,"a":1}'], (HostError,), _JSON, is_json=True),
    Target("stored-document", _config, _configs, (ValueError,), _JSON, 8192, is_json=True),
    Target(
        "timeline", _timeline, _boot, (), (b"MESSAGE", b"TimestampMonotonic=", b"<", b"&", b"]]>"), 16384
    ),
    Target("journal", _journal, lambda: [_JOURNAL, _UNITS], (), (b"MESSAGE", b"Monotonic=", *_JSON)),
)
