"""A document applied to the files of an image: what the reader takes, no step fails on unexpectedly."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from agent.cli import apply
from agent.context import context
from agent.host.host import Host
from agent.reader import client
from agent.reader.common.result import Reading, encoded, problem_rows
from agent.report import Outcome, StepReport
from agent.stages import Stage
from tests import corpus
from tests.fuzz.drives import NETWORK, YAML, of_corpus, parsed
from tests.fuzz.target import FOLDER, Target
from tests.unit.reader import drives

#: Files of an image, with networkd enabled; zones and shell are those that documents name.
FILES = {
    "bin/bash": "",
    "etc/debian_version": "13.1\n",
    "etc/default/keyboard": "XKBLAYOUT=us\n",
    "etc/fstab": "UUID=x / ext4 defaults 0 1\n",
    "etc/group": "root:x:0:\nsudo:x:27:\nusers:x:100:\n",
    "etc/gshadow": "root:*::\nsudo:*::\nusers:*::\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n",
    "etc/locale.gen": "# fr_FR.UTF-8 UTF-8\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "etc/shadow": "root:*:1::::::\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
    "etc/subgid": "",
    "etc/subuid": "",
    "root/.profile": "",
    "usr/lib/systemd/system/serial-getty@.service": "",
    "usr/lib/systemd/systemd-networkd": "",
    "usr/share/i18n/SUPPORTED": "fr_FR.UTF-8 UTF-8\n",
    "usr/share/zoneinfo/Etc/UTC": "TZif",
    "usr/share/zoneinfo/Europe/Paris": "TZif",
}


def _applied(dialect: str, place: str, others: Mapping[str, bytes], data: bytes) -> None:
    """A second run changes nothing that the first one has done, and neither ends with a defect."""
    reading = parsed(dialect, {**others, place: data})
    if reading.config is None:
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=FOLDER) as name:
        folder = Path(name)
        _image(folder / "root")
        first, second = (_run(folder / "root", reading) for _ in range(2))
        assert [one.name for one in folder.iterdir()] == ["root"]
    _check_defects(*first, *second)
    again = [f"{r.step}: {i}" for r in second for i in r.items if i.outcome is Outcome.CHANGED]
    assert again == []


def _check_defects(*reports: StepReport) -> None:
    for report in reports:
        for item in report.items:
            assert not item.detail.startswith("unexpected "), f"{report.step}: {item}"


def _image(root: Path) -> None:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")


def _run(root: Path, reading: Reading) -> list[StepReport]:
    answer = json.loads(json.dumps(encoded(reading) | {"problems": problem_rows(reading.problems)}))
    ctx = context(Host(root, offline=True, runs_programs=False))
    return list(apply.steps(ctx, "the image", tuple(Stage), read=lambda: client._parsed(answer)))


_DOCUMENT = json.dumps(drives.NATIVE).encode()
_STATE = "var/lib/gandi"
_INSTANCE = f"{_STATE}/instances/native-vm-1"
#: Files of the state, and what they hold where a first run leaves none.
STORED = {
    "instance": (f"{_STATE}/instance.json", ""),
    "applied": (f"{_INSTANCE}/applied.json", ""),
    "begun": (f"{_INSTANCE}/begun.json", '{"version":1,"items":{"user:bob":"x"}}'),
    "passwords": (f"{_INSTANCE}/passwords.json", ""),
    "nics": (f"{_INSTANCE}/nics.json", ""),
    "config": (f"{_INSTANCE}/config.json", ""),
    "system": (
        f"{_STATE}/system/applied.json",
        '{"version":1,"items":{"hosts":{"delivered":"x","left":"y"}}}',
    ),
    "disks": (f"{_STATE}/disks.json", '{"version":1,"disks":{"u":{"at":"/srv/x","size":7}}}'),
    "adopted": (f"{_STATE}/adopted.json", '{"version":1,"document":"x","boot":"","done":[],"nics":["0"]}'),
}


@functools.cache
def _applied_once() -> tuple[Path, Reading]:
    """Return an image to which a document was applied, and that; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=FOLDER)
    _folders.append(folder)
    root, reading = Path(folder.name) / "root", parsed("native", {"gandi.json": _DOCUMENT})
    _image(root)
    _run(root, reading)
    return root, reading


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _stored(file: str, data: bytes) -> None:
    """A damaged file of the state, also one that an image brings along, is named, and no step's defect."""
    root, reading = _applied_once()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=FOLDER) as name:
        copy = Path(name) / "root"
        shutil.copytree(root, copy, symlinks=True)
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes(data)
        _check_defects(*_run(copy, reading))


def _seed(file: str, text: str) -> list[bytes]:
    return [text.encode() if text else (_applied_once()[0] / file).read_bytes()]


_META = {"meta-data": corpus.META_DATA}

TARGETS = (
    Target(
        "applied-user-data",
        partial(_applied, "nocloud", "user-data", _META),
        partial(of_corpus, "userdata/"),
        tokens=YAML,
        largest=8192,
        short=10,
    ),
    Target(
        "applied-network",
        partial(_applied, "nocloud", "network-config", _META),
        partial(of_corpus, "network/netplan", "network/v1"),
        tokens=YAML + NETWORK,
        largest=8192,
        short=10,
    ),
    Target(
        "applied-document",
        partial(_applied, "native", "gandi.json", {}),
        lambda: [_DOCUMENT],
        largest=8192,
        short=10,
        is_json=True,
    ),
    *(
        Target(f"state-{name}", partial(_stored, file), partial(_seed, file, text), is_json=True, short=10)
        for name, (file, text) in STORED.items()
    ),
)
