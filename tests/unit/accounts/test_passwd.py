"""Facts about accounts and keys, from files as real systems have them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.accounts import passwd as accounts
from agent.host.host import Host
from tests.unit.lib.test_text import NO_END

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIHdf2mNDYbbiLMAH/3rdNZmPnmVcRdhNWxbWdsCbXvYF"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.write(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nbroken\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
        "admin1:x:1000:1000:A,,,:/home/admin1:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n+nis::::::\n",
    )
    host.write("/etc/group", "root:x:0:\nwheel:x:10:\nsudo:x:27:other,admin1\n")
    host.write("/etc/shadow", "root:*:19000:0:99999:7:::\nadmin1:$6$salt$hash:19000:0:99999:7:::\n")
    return host


def test_accounts_are_read_from_passwd(host: Host) -> None:
    found = accounts.account(host, "admin1")
    assert found == accounts.Account("admin1", 1000, 1000, "/home/admin1", "/bin/bash")
    assert accounts.account(host, "absent") is None
    assert accounts.account(host, "+nis") is None
    ordinary = {
        name
        for name in ("root", "daemon", "admin1", "nobody")
        if (a := accounts.account(host, name)) and a.is_regular_user
    }
    assert ordinary == {"admin1"}


def test_shadow_and_groups(host: Host) -> None:
    assert accounts.password(host, "admin1") == "$6$salt$hash"
    assert accounts.password(host, "daemon") is None
    assert accounts.admin_group(host) == "sudo"
    assert (accounts.group(host, "wheel"), accounts.group(host, "absent")) == (10, None)
    assert accounts.is_in_group(host, "admin1", "sudo")
    assert not accounts.is_in_group(host, "admin", "sudo")
    host.write("/etc/group", "wheel:x:10:\n")
    assert accounts.admin_group(host) == "wheel"
    host.write("/etc/group", "")
    assert accounts.admin_group(host) is None


@pytest.mark.parametrize(
    ("main", "drop_in", "expected"),
    [
        (None, None, "/home/admin1/.ssh/authorized_keys"),
        ("#AuthorizedKeysFile x\n", None, "/home/admin1/.ssh/authorized_keys"),
        ("AuthorizedKeysFile .ssh/keys .ssh/authorized_keys2\n", None, "/home/admin1/.ssh/keys"),
        ("authorizedkeysfile=%h/%u/100%%\n", None, "/home/admin1/admin1/100%"),
        ("AuthorizedKeysFile /etc/ssh/keys/%u\n", None, "/etc/ssh/keys/admin1"),
        ("AuthorizedKeysFile none\n", None, "/home/admin1/.ssh/authorized_keys"),
        ("AuthorizedKeysFile a\n", "AuthorizedKeysFile b\n", "/home/admin1/b"),
        ("Match User x\n AuthorizedKeysFile a\n", None, "/home/admin1/.ssh/authorized_keys"),
    ],
)
def test_where_sshd_looks(host: Host, main: str | None, drop_in: str | None, expected: str) -> None:
    for name, text in (("sshd_config", main), ("sshd_config.d/10-x.conf", drop_in)):
        if text is not None:
            host.write(f"/etc/ssh/{name}", text)
    assert (
        accounts.keys_file(host, accounts.Account("admin1", 1000, 1000, "/home/admin1", "/bin/bash"))
        == expected
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"ssh-ed25519 {ED25519} me@home", True),
        (f'from="10.0.0.1",command="echo ssh-rsa AAAA" ssh-ed25519 {ED25519}', True),
        (f"sk-ssh-ed25519@openssh.com {ED25519} yubikey", True),
        (f"ecdsa-sha2-nistp256 {ED25519}", True),
        (f"# ssh-ed25519 {ED25519}", False),
        (f'command="echo a \\" ssh-rsa AAAA" ssh-ed25519 {ED25519}', True),
        (f'  no-pty,from="10.0.0.1"\t ssh-ed25519  {ED25519}', True),
        (f"ssh-ed25519 {ED25519}\r", True),
        (f'command="ssh-ed25519 {ED25519}"', False),
        (f'command="x ssh-ed25519 {ED25519} y" ssh-rsa AAAAB3NzaC1yc2E', False),
        (f"ssh-rsa AAAAB3NzaC1yc2E ssh-ed25519 {ED25519}", False),
        (f"ssh-rsa AAAAB3NzaC1yc2E x\u2028ssh-ed25519 {ED25519}", False),
        (f'command="never closed ssh-ed25519 {ED25519}', False),
        (f"no-pty x11 ssh-ed25519 {ED25519}", False),
        (f"ssh-ed25519\u2028{ED25519}", False),
        (f"ssh-ed25519\x0c{ED25519}", False),
        ("ssh-ed25519 not-base64", False),
        ("", False),
    ],
)
def test_a_key_line_is_known_by_its_type_and_blob(text: str, key: bool) -> None:
    found = accounts.key_blob(text)
    assert (found is not None and found.endswith(ED25519)) is key


def test_the_fingerprint_is_ssh_keygens(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    said = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "k.pub"], capture_output=True, text=True, check=True
    )
    assert accounts.fingerprint((tmp_path / "k.pub").read_text()) == said.stdout.split()[1]


@pytest.mark.parametrize("odd", [*NO_END, "²"], ids=ascii)
def test_what_a_user_says_of_itself_hides_no_account(host: Host, odd: str) -> None:
    """chfn lets users put such a character into their line of passwd, but no colon."""
    passwd, group = host.read("/etc/passwd") or "", host.read("/etc/group") or ""
    host.write("/etc/passwd", passwd.replace("A,,,", f"A{odd}{odd}evil,,,"))
    host.write("/etc/group", group.replace("other,", f"other{odd},"))
    assert accounts.account(host, "admin1") == accounts.Account(
        "admin1", 1000, 1000, "/home/admin1", "/bin/bash"
    )
    assert accounts.is_in_group(host, "admin1", "sudo")
    host.write("/etc/passwd", f"admin1:x:²:1000::/home/admin1:/bin/bash\nx{odd}y:x:0:0::/:/\n")
    assert accounts.account(host, "admin1") is None
    assert accounts.account(host, "y") is None
