"""What others chose within a line of a system file: each reader of one takes it for a part of its line.

mountinfo, swaps, fstab and crypttab are in block/test_mounts.py, passwd and group in
accounts/test_passwd.py, authorized_keys in accounts/test_authorized_keys.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.accounts import passwd
from agent.block import storage
from agent.cli import succeed
from agent.config.settings import Settings, parse
from agent.disks import mode_autofs
from agent.disks.growth import luks
from agent.disks.usage import services_file, stop_services
from agent.host import sysfs
from agent.host.host import Host
from agent.network import ifupdown, sshd
from agent.reader.common import fields
from agent.reader.dialects import gandi
from agent.steps import cron, hostname
from agent.udev import database
from tests.unit.lib.test_text import NO_END
from tests.unit.sysfs import Sysfs, virtio

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF"
every_character = pytest.mark.parametrize("odd", [*NO_END, "²"], ids=ascii)


def _holding(root: Path, name: str, text: str) -> Host:
    """A system in which that file holds the text, byte for byte."""
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return Host(root)


@every_character
def test_a_label_adds_no_property(tmp_path: Path, odd: str) -> None:
    """Neither to udev's record nor to the kernel's uevent, where a partition's name is as it was given."""
    disk = virtio(Sysfs(tmp_path))
    (disk / "uevent").write_bytes(f"DEVNAME=vdb\nPARTNAME=a{odd}DEVTYPE=evil\nDEVTYPE=disk\n".encode())
    host = _holding(tmp_path, "run/udev/data/b254:16", f"E:ID_FS_LABEL=a{odd}E:ID_FS_TYPE=evil\nI:5\n")
    found = database.block(host, "vdb")
    assert found["ID_FS_LABEL"] == f"a{odd}E:ID_FS_TYPE=evil"
    assert found["PARTNAME"] == f"a{odd}DEVTYPE=evil".encode().decode("ascii", "replace")
    assert (found.get("ID_FS_TYPE"), found["DEVTYPE"]) == (None, "disk")


@every_character
def test_a_control_group_is_a_whole_line(tmp_path: Path, odd: str) -> None:
    host = _holding(tmp_path, "proc/7/cgroup", f"1:name=x:/a{odd}0::/evil\n0::/b{odd}c\n")
    assert stop_services._group(host, 7) == f"/b{odd}c"


@every_character
def test_a_disk_names_no_second_service(odd: str) -> None:
    assert services_file.names(f"# a{odd}postgresql\nb{odd}c\nd\n".encode()) == ("d.service",)


@every_character
def test_a_comment_stays_one(tmp_path: Path, odd: str) -> None:
    """In every file that an administrator or an image writes."""
    owner = passwd.Account("u", 1000, 1000, "/home/u", "/bin/sh")
    host = _holding(tmp_path, "etc/ssh/sshd_config", f"# x{odd}AuthorizedKeysFile /evil\n")
    assert passwd.keys_file(host, owner) == "/home/u/.ssh/authorized_keys"
    assert sshd.included({"f": f"# x{odd}Include /evil\n"}) == []
    host = _holding(tmp_path, mode_autofs.LINK, f"# x{odd}/evil auto.gandi\n/right auto.gandi\n")
    assert mode_autofs.root(host) == "/right"
    host = _holding(tmp_path, luks.CRYPTTAB, f"# x{odd}data /dev/vdb /key\n")
    _holding(tmp_path, "key", "secret")
    assert luks.unlocks(host, "data") is None
    stanza = f"# x{odd}iface eth0 inet dhcp\n"
    host = _holding(tmp_path, "etc/network/interfaces", stanza)
    assert ifupdown.configures(host, frozenset({"eth0"}), "") == ""
    assert ifupdown.without(stanza, "eth0") == stanza
    assert not re.search(cron._JOB, f"# x{odd}25 6 * * * root run-parts /etc/cron.daily\n")
    hosts = f"# x{odd}127.0.1.1 old\n"
    assert hostname.with_line(hosts, None, "127.0.1.1\tnew") == f"{hosts}127.0.1.1\tnew\n"
    assert parse(f"# x{odd}CONFIG_HOSTNAME=0\n") == (Settings(), [])


@every_character
def test_a_setting_sets_no_other(odd: str) -> None:
    assert parse(f"CONFIG_NODHCP='a{odd}CONFIG_HOSTNAME=0'\n")[0].hostname is Settings().hostname


@every_character
def test_dpkgs_records_are_whole_lines(odd: str) -> None:
    assert list(succeed._conffile_digests(f"0  etc/a{odd}1  etc/b\n").values()) == ["0"]


@pytest.mark.parametrize("odd", ["", "²", "-", "1_0", "0x10", "9" * 30, "1\v2"], ids=ascii)
def test_what_is_no_number_is_none(tmp_path: Path, odd: str) -> None:
    host = _holding(tmp_path, "sys/class/block/vdb/size", f"{odd}\n")
    assert storage.current_size(host, "vdb") == 0
    (tmp_path / f"sys/class/net/eth{odd or 'x'}").mkdir(parents=True)
    assert sysfs.numbered(host, "/sys/class/net", "eth") == {}


# -- what is delivered -----------------------------------------------------------------------


@pytest.mark.parametrize("odd", NO_END, ids=ascii)
def test_a_key_with_another_end_of_line_is_refused_by_its_place(odd: str) -> None:
    """It is no key of two lines either: other programs than sshd would read it so."""
    text = f'command="/bin/true" {KEY} me{odd}{KEY} me\n{KEY} other\n'
    assert set(_keys(text)) == {f"{KEY} other"}
    assert fields.items(f"a{odd}b\nc\r\n") == (f"a{odd}b", "c")
    with pytest.raises(ValueError, match="line separator"):
        fields.key(text.split("\n", 1)[0])


def test_a_key_within_an_option_is_none() -> None:
    with pytest.raises(ValueError, match="not an OpenSSH public key"):
        fields.key(f'command="x {KEY} y"')
    assert fields.key(f'command="x {KEY} y" {KEY}')[0] == KEY


def _keys(keys: str) -> tuple[str, ...]:
    document = {"vm_hostname": "vm1", "vif": [], "vm_conf": {"user": "admin1", "ssh_key": keys}}
    config, _, problems = gandi.parse(document, None)
    assert [problem.path for problem in problems] == ["vm_conf.ssh_key line 1"]
    return tuple(key for user in config.users for key in user.keys)
