"""Which services a foreign disk may name for a detach, and which not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.disks.usage.services_file import names, read
from agent.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", ()),
        (b"postgresql\n", ("postgresql.service",)),
        (b"a.service\n\n  b # the other one\n#c\na\n", ("a.service", "b.service")),
        (b"db@main.service\n", ("db@main.service",)),
        (b"ssh\nsshd.service\nSSH@1\n", ()),
        (b"gandi-agent\nsystemd-logind.service\nSystemd-Journald\n", ()),
        (b"--now\n-M host\n../x\na/b\na b\n\x1b[31m\n\xff\n", ()),
        (b"x" * 300, ()),
    ],
)
def test_names(text: bytes, found: tuple[str, ...]) -> None:
    assert names(text) == found


def test_so_many_and_no_more() -> None:
    assert len(names(b"\n".join(b"s%d" % number for number in range(1000)))) == 64


def test_nothing_on_the_disk_is_followed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert read(host, "/srv/data") == ()
    (tmp_path / "srv/data/.gandi").mkdir(parents=True)
    assert read(host, "/srv/data") == ()
    real = tmp_path / "services"
    real.write_text("postgresql\n")
    (tmp_path / "srv/data/.gandi/services").symlink_to(real)
    assert read(host, "/srv/data") == ()
    (tmp_path / "srv/data/.gandi/services").unlink()
    real.rename(tmp_path / "srv/data/.gandi/services")
    assert read(host, "/srv/data") == ("postgresql.service",)
    (tmp_path / "srv/data/.gandi").rename(tmp_path / "srv/elsewhere")
    (tmp_path / "srv/data/.gandi").symlink_to(tmp_path / "srv/elsewhere")
    assert read(host, "/srv/data") == ()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    (tmp_path / "srv/data/.gandi").mkdir(parents=True)
    os.mkfifo(tmp_path / "srv/data/.gandi/services")
    assert read(Host(tmp_path), "/srv/data") == ()
