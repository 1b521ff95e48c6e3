"""Labels of SELinux on a machine without a policy; tests/vm/test_selinux.py shows them with one."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import selinux


@pytest.fixture
def enforce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "enforce"
    monkeypatch.setattr(selinux, "_ENFORCE", str(file))
    selinux._labels.cache_clear()
    yield file
    selinux._labels.cache_clear()


def test_a_kernel_that_enforces_nothing_keeps_no_file_from_being_written(enforce: Path) -> None:
    enforce.write_bytes(b"0")
    with selinux.labelled_as("/etc/hostname", stat.S_IFREG):
        (enforce.parent / "hostname").write_text("vm1\n")


def test_labels_that_cannot_be_read_are_an_error_where_the_policy_is_enforced(enforce: Path) -> None:
    enforce.write_bytes(b"1")
    with (
        pytest.raises(OSError, match="for its label of SELinux"),
        selinux.labelled_as("/etc/x", stat.S_IFREG),
    ):
        pytest.fail("nothing is written")
