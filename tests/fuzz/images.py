"""A document applied to the files of an image: what the reader takes, no step fails on unexpectedly."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from agent.cli import apply
from agent.context import context
from agent.host.host import Host
from agent.reader import client
from agent.reader.common.result import encoded, problem_rows
from agent.report import Outcome, StepReport
from agent.stages import Stage
from tests import corpus
from tests.fuzz.drives import NETWORK, YAML, of_corpus, parsed
from tests.fuzz.target import Target
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
    answer = json.loads(json.dumps(encoded(reading) | {"problems": problem_rows(reading.problems)}))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm"))
    try:
        for name, text in FILES.items():
            path = folder / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        wants = folder / "root/etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
        first, second = (_run(folder / "root", lambda: client._parsed(answer)) for _ in range(2))
        assert [one.name for one in folder.iterdir()] == ["root"]
    finally:
        shutil.rmtree(folder)
    for report in (*first, *second):
        for item in report.items:
            assert not item.detail.startswith("unexpected "), f"{report.step}: {item}"
    again = [f"{r.step}: {i}" for r in second for i in r.items if i.outcome is Outcome.CHANGED]
    assert again == []


def _run(root: Path, read: Callable[[], client.Parsed]) -> list[StepReport]:
    ctx = context(Host(root, offline=True, runs_programs=False))
    return list(apply.steps(ctx, "the image", tuple(Stage), read=read))


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
        lambda: [json.dumps(drives.NATIVE).encode()],
        largest=8192,
        short=10,
        is_json=True,
    ),
)
