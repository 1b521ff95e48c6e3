"""Configuration drives as the platforms make them: what is on them, and the images that carry it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Content = Mapping[str, bytes]

MIB = 1 << 20
#: ISO 9660 as CloudStack's older versions make it; with Rock Ridge and Joliet; with names of 8 and 3
#: letters.
PLAIN, ROCK_RIDGE, SHORT = ("-iso-level", "3"), ("-r", "-J"), ("-iso-level", "1")


def write_tree(folder: Path, content: Content) -> Path:
    """The files below a folder."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_iso(path: Path, content: Content | Path, label: str, options: tuple[str, ...] = ROCK_RIDGE) -> Path:
    """An ISO 9660 image of these files, or of a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = content if isinstance(content, Path) else write_tree(Path(scratch), content)
        argv = ("genisoimage", "-quiet", *options, "-V", label, "-o", str(path), str(tree))
        subprocess.run(argv, check=True, capture_output=True)
    return path


def make_vfat(path: Path, content: Content, label: str, size: int = 16 * MIB) -> Path:
    """A FAT image of these files."""
    with path.open("wb") as image:
        image.truncate(size)
    subprocess.run(("mkfs.vfat", "-n", label, path), check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = write_tree(Path(scratch), content)
        subprocess.run(("mcopy", "-s", "-i", path, *tree.iterdir(), "::"), check=True, capture_output=True)
    return path


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


def cloudstack(id: str = "i-2-11-VM", hostname: str = "cs1", *, password: str = "", **more: str) -> Content:
    """What CloudStack writes; ``more``: further metadata, ``public_keys`` and ``user_data``."""
    user_data = more.pop("user_data", "")
    names = {"instance_id": id, "vm_id": id, "local_hostname": hostname} | more
    content = {f"cloudstack/metadata/{n.replace('_', '-')}.txt": v.encode() for n, v in names.items()}
    if user_data:
        content["cloudstack/userdata/user_data.txt"] = user_data.encode()
    if password:
        content["cloudstack/password/vm_password.txt"] = password.encode()
    return content | {
        "openstack/latest/meta_data.json": _text({"uuid": id, "hostname": hostname}),
        "openstack/latest/network_data.json": b"{}",
        "openstack/latest/vendor_data.json": b"{}",
    }


def openstack(
    id: str, hostname: str = "os1", *, network: object = None, user_data: bytes = b"", **meta: Any
) -> Content:
    """What OpenStack writes; ``meta``: more of meta_data.json."""
    content = {
        "openstack/latest/meta_data.json": _text(
            {"uuid": id, "hostname": hostname, "name": hostname} | meta
        ),
        "openstack/2012-08-10/meta_data.json": _text({"uuid": id, "hostname": "an-old-format"}),
    }
    if network is not None:
        content["openstack/latest/network_data.json"] = _text(network)
    if user_data:
        content["openstack/latest/user_data"] = user_data
    return content | {"openstack/2018-08-27" + n[16:]: d for n, d in content.items() if "latest" in n}


def nocloud(
    id: str, hostname: str = "nc1", *, user_data: bytes = b"", network: str = "", keys: tuple[str, ...] = ()
) -> Content:
    """What a NoCloud seed has: YAML in the root folder."""
    meta = f"instance-id: {id}\nlocal-hostname: {hostname}\n"
    if keys:
        meta += "public-keys:\n" + "".join(f"  - {key}\n" for key in keys)
    content = {"meta-data": meta.encode(), "user-data": user_data}
    return content | ({"network-config": network.encode()} if network else {})


def native(document: Mapping[str, Any]) -> Content:
    """Our own document."""
    return {"gandi.json": _text({"version": 1} | dict(document))}
