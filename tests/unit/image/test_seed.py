"""The parser reads the media that this makes."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.host.host import Host
from agent.image import seed
from agent.lib.errors import ConfigError, HostError
from agent.reader import client
from agent.sources import signed

CONFIG = b'{"vm_hostname": "vm1", "vif": []}'


def test_an_archive_is_the_same_each_time() -> None:
    one = seed.archive({"config": CONFIG, "script": b"#!/bin/sh\n"})
    assert one == seed.archive({"config": CONFIG, "script": b"#!/bin/sh\n"})
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert tar.getnames() == ["gandi/config", "gandi/script"]
        assert {member.mode for member in tar} == {0o600}


def test_a_swap_image_is_what_the_reader_reads(tmp_path: Path) -> None:
    image = tmp_path / "swap.img"
    seed.swap(Host(), str(image), seed.archive({"config": CONFIG, "script": b"x"}), size=64 << 20)
    assert image.stat().st_size == 64 << 20
    assert image.stat().st_blocks * 512 < 1 << 20
    assert image.stat().st_mode & 0o077 == 0
    with image.open("rb") as medium:
        found = client.parse_disk(medium.fileno())
    assert found.config is not None
    assert (found.config.hostname, found.files["script"]) == ("vm1", b"x")


def test_a_folder_that_is_in_the_way_of_an_iso_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "_ISO_TOOLS", (("true",),))
    image, mine = tmp_path / "seed.iso", tmp_path / f"seed.iso.{os.getpid()}"
    image.write_bytes(b"an older image")
    mine.mkdir()
    (mine / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        seed.iso(Host(), str(image), {"gandi.json": b"{}"})
    assert (mine / "notes").read_text() == "mine"
    assert image.read_bytes() == b"an older image"


def test_an_image_is_private_whatever_stood_there(tmp_path: Path) -> None:
    image, other = tmp_path / "swap.img", tmp_path / "other"
    for before in (image, other):
        before.write_bytes(b"x")
        before.chmod(0o644)
    seed.swap(Host(), str(image), b"secret", size=1 << 20)
    assert image.stat().st_mode & 0o077 == 0
    image.unlink()
    image.symlink_to(other)
    seed.swap(Host(), str(image), b"secret", size=1 << 20)
    assert image.stat().st_mode & 0o077 == 0
    assert other.read_bytes() == b"x"


def test_an_archive_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        seed.swap(Host(), str(tmp_path / "swap.img"), bytes(1 << 20), size=1 << 20)


def test_a_device_is_never_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a regular file"):
        seed.swap(Host(), str(tmp_path / "pipe"), b"", size=1 << 20)


def test_a_folder_is_new_and_private(tmp_path: Path) -> None:
    out = tmp_path / "drive"
    seed.folder(Host(), str(out), {"gandi.json": b"{}", "deep/er": b"x"})
    assert (out / "deep/er").read_bytes() == b"x"
    assert out.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="already"):
        seed.folder(Host(), str(out), {})


def test_without_a_program_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ISO") as caught:
        seed.iso(Host(tmp_path), "/drive.iso", {})
    assert "xorriso" in caught.value.hint


def test_a_drive_takes_a_native_document() -> None:
    native = b'{"version": 1}'
    assert seed.drive(native, b"x") == {"gandi.json": native, "script": b"x"}
    assert seed.drive(native) == {"gandi.json": native}
    for other in (CONFIG, b"[]", b"{"):
        with pytest.raises(ConfigError) as caught:
            seed.drive(other)
        assert "config schema" in caught.value.hint


def _key(folder: Path) -> Path:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run(argv, check=True)
    return folder / "key"


def test_a_signed_drive_is_what_a_machine_with_the_key_accepts(tmp_path: Path) -> None:
    key, config = _key(tmp_path), b'{"version": 1, "id": "vm1", "counter": 1}'
    files = seed.signed_drive(Host(), config, str(key))
    assert files["gandi.json"] == config
    public = key.with_suffix(".pub").read_text()
    signed._verify(f"platform {public}".encode(), "gandi.json", config, files["gandi.json.sig"])
    with pytest.raises(ConfigError, match="not valid"):
        signed._verify(f"platform {public}".encode(), "gandi.json", config + b" ", files["gandi.json.sig"])


@pytest.mark.parametrize(
    ("config", "script", "why"),
    [
        (b'{"version": 1, "id": "vm1"}', None, "needs counter"),
        (b'{"version": 1}', None, "needs id and counter"),
        (b'{"version": 1, "id": "vm1", "counter": 1}', b"true", "not covered by the signature"),
        (CONFIG, None, "native document only"),
    ],
)
def test_what_such_a_machine_would_refuse_is_not_signed(
    tmp_path: Path, config: bytes, script: bytes | None, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        seed.signed_drive(Host(), config, str(tmp_path / "absent"), script)


def test_a_key_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ssh-keygen"):
        seed.signed_drive(Host(), b'{"version": 1, "id": "vm1", "counter": 1}', str(tmp_path / "absent"))
