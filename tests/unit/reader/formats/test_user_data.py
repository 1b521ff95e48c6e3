"""Each type of user data, packed and in MIME parts, and the keys of #cloud-config that are applied."""

from __future__ import annotations

import gzip
import json
from email.mime.application import MIMEApplication
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest

from agent.config.model import AccountOptions, File, InstanceConfig, User
from agent.reader.common.merge import KEPT, Draft, PasswordForm
from agent.reader.common.problem import UNSUPPORTED
from agent.reader.common.result import Reading
from agent.reader.formats import user_data, yaml_events
from tests.unit.effort import within
from tests.unit.reader import drives
from tests.unit.reader.dialects.test_gandi import HASH, key

SCRIPT = b"#!/bin/sh\necho hello\n"
CONFIG = b"#cloud-config\nhostname: vm1\n"
#: A password is to be changed at the first login unless the document says otherwise.
EXPIRED = AccountOptions(expire_password=True)
KEPT_FOR_GOOD = {"chpasswd": {"expire": False}}


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(*raw: bytes, vendor: bytes = b"") -> tuple[InstanceConfig, Reading]:
    draft = Draft("test")
    for one in raw:
        user_data.read(one, "user-data", draft)
    user_data.read(vendor, "vendor-data", draft, vendor=True)
    reading = draft.reading()
    assert reading.config is not None
    return reading.config, reading


def cloud(**document: Any) -> tuple[InstanceConfig, Reading]:
    return read(b"#cloud-config\n" + json.dumps(document).encode())


def message(*parts: bytes | MIMEBase) -> bytes:
    whole = MIMEMultipart()
    for part in parts:
        whole.attach(MIMEText(part.decode(), "x-shellscript") if isinstance(part, bytes) else part)
    return whole.as_bytes()


@pytest.mark.parametrize(
    "raw",
    [SCRIPT, gzip.compress(SCRIPT), message(SCRIPT), gzip.compress(message(SCRIPT))],
    ids=["plain", "gzip", "MIME", "gzip of MIME"],
)
def test_a_script(raw: bytes) -> None:
    config, reading = read(raw)
    assert not reading.problems
    assert [script.name for script in config.scripts] == ["user-script"]
    assert reading.files["user-script"] == SCRIPT
    assert reading.files["user-data"] == raw, "as it came"


def test_parts() -> None:
    packed = MIMEBase("application", "gzip")
    packed.set_payload(gzip.compress(b"#!/bin/sh\necho packed\n"))
    from email.encoders import encode_base64

    encode_base64(packed)
    bare = MIMEText("timezone: Etc/UTC\n", "cloud-config")
    config, reading = read(message(SCRIPT, MIMEText(CONFIG.decode(), "cloud-config"), bare, packed, SCRIPT))
    assert not reading.problems
    assert (config.hostname, config.timezone) == ("vm1", "Etc/UTC")
    assert [script.name for script in config.scripts] == ["user-script", "user-script-2", "user-script-3"]
    assert reading.files["user-script-2"] == b"#!/bin/sh\necho packed\n"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (gzip.compress(bytes(5 << 20), mtime=0), "unpacks to more than"),
        (gzip.compress(SCRIPT, mtime=0)[:-9], "cut short"),
        (b"\x1f\x8b" + b"x" * 40, "damaged gzip"),
        (b"#!" + b"x" * (5 << 20), "at most"),
        (b"#include\nhttp://example.org\n", "#include: no network"),
        (b"## template: mako\n#cloud-config\n", "a template in another language"),
        (b"#cloud-boothook\n", "a boothook without commands"),
        (b"#cloud-config\n- a\n", "not a dictionary"),
        (b"#cloud-config\na: [\n", "not YAML"),
        (b"#cloud-config\n\xff", "not a dictionary"),
        (message(*[SCRIPT] * 60), "MIME parts"),
        (b"MIME-Version: 1.0\nContent-Type: text/plain\n\n" + b"x\n" * 600_000, "at most"),
    ],
    ids=range(12),
)
def test_refused(raw: bytes, said: str) -> None:
    _, reading = read(raw)
    (problem,) = reading.problems
    assert problem.path.startswith("user-data")
    assert said in problem.message
    assert problem.hint


def test_parts_in_parts_are_bounded() -> None:
    nested = b"#!/bin/sh\n"
    for depth in range(200):
        head = f"Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n".encode()
        nested = head + nested + f"\n--b{depth}--\n".encode()
    filled = nested + b"a\n" * 400_000
    _, reading = within(20, lambda: read(filled))
    assert "too deeply" in reading.problems[0].message


def test_packed_parts_in_packed_parts_are_bounded_in_all() -> None:
    innermost = message(b"#!/bin/sh\n" + b"x\n" * 450_000)
    inside = message(*[MIMEApplication(gzip.compress(innermost)) for _ in range(20)])
    whole = message(*[MIMEApplication(gzip.compress(inside)) for _ in range(50)])
    _, reading = within(40, lambda: read(whole))
    assert any("in all" in problem.message for problem in reading.problems)


@pytest.mark.parametrize("count", [3, 1])
def test_a_long_message_is_read_in_time(count: int) -> None:
    head = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(count))
    filled = (b"\n" * (900 << 10), b"-" * (900 << 10), b"--b0\n\n" * (140 << 10))
    within(60, lambda: [read(head.encode() + one) for one in filled])


def test_an_applications_own_text_is_only_kept() -> None:
    config, reading = read(b'{"mine": true}')
    (problem,) = reading.problems
    assert (problem.severity, problem.message) == (
        UNSUPPORTED,
        "neither a script nor #cloud-config: only stored",
    )
    assert not config.scripts
    assert reading.files == {"user-data": b'{"mine": true}'}


def test_what_is_kept_is_bounded() -> None:
    scripts = [b"#!/bin/sh\n#" + bytes([65 + n]) * (3 << 20) for n in range(4)]
    _, reading = read(*scripts)
    assert sum(map(len, reading.files.values())) <= KEPT
    assert any("left out" in problem.message for problem in reading.problems)


def test_the_sample() -> None:
    config, reading = read(drives.CLOUD_CONFIG.encode())
    assert sorted((p.path, p.harmless) for p in reading.problems) == []
    assert (config.hostname, config.timezone) == ("from-user-data", "Europe/Paris")
    bob, alice = config.users
    assert bob == User(
        "bob",
        HASH,
        (key("bob"),),
        groups=("adm", "www-data"),
        shell="/bin/bash",
        sudo=("ALL=(ALL) NOPASSWD:ALL",),
        options=AccountOptions(gecos="Bob"),
    )
    assert alice == User("alice", locked=True, options=AccountOptions(gecos="Alice"))
    motd, packed = config.files
    assert motd == File("/etc/motd", motd.name, motd.digest, "root", "adm", 0o640)
    assert reading.files[packed.name] == b"hello"
    assert reading.files["bootcmd"] == b"#!/bin/sh\necho early\n"
    assert reading.files["runcmd"] == b"#!/bin/sh\ntouch '/root/a b'\necho done > /root/done\n"
    assert [script.name for script in config.boot] == ["bootcmd"]
    assert [script.name for script in config.scripts] == ["runcmd"]


@pytest.mark.parametrize(
    ("document", "users", "secrets"),
    [
        ({"password": "s3cr3t"} | KEPT_FOR_GOOD, [User("")], {"": "s3cr3t"}),
        ({"password": HASH}, [User("", HASH, options=EXPIRED)], {}),
        (
            {"chpasswd": {"list": "bob:x\ncarol:y", "expire": False}},
            [User("bob"), User("carol")],
            {"bob": "x", "carol": "y"},
        ),
        ({"chpasswd": {"list": ["bob:" + HASH]}}, [User("bob", HASH, options=EXPIRED)], {}),
        (
            {"chpasswd": {"users": [{"name": "bob", "password": "x", "type": "text"}]}},
            [User("bob", options=EXPIRED)],
            {"bob": "x"},
        ),
        ({"users": ["default", "bob"]}, [User("bob", locked=True)], {}),
        ({"users": "bob"}, [User("bob", locked=True)], {}),
        ({"users": {"bob": {"lock_passwd": False}}}, [User("bob")], {}),
        (
            {"users": [{"name": "bob", "plain_text_passwd": "x", "lock_passwd": False}]},
            [User("bob")],
            {"bob": "x"},
        ),
        (
            {"users": ["bob"], "chpasswd": {"list": "bob:x"}},
            [User("bob", options=EXPIRED)],
            {"bob": "x"},
        ),
        ({"ssh_authorized_keys": [key()]}, [User("", keys=(key(),))], {}),
        (
            {"users": [{"name": "bob", "ssh-authorized-keys": [key()], "groups": "a, b", "sudo": False}]},
            [User("bob", keys=(key(),), groups=("a", "b"), locked=True)],
            {},
        ),
    ],
)
def test_accounts(document: dict[str, Any], users: list[User], secrets: dict[str, str]) -> None:
    config, reading = cloud(**document)
    assert all(problem.harmless for problem in reading.problems)
    assert list(config.users) == users
    assert reading.secrets == secrets
    assert ("user-data" in reading.files) is not bool(secrets), "a plain password is not kept"


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        ({"users": [{"name": "ro ot"}]}, "users[0].name", "useradd"),
        ({"users": [{"shell": "/bin/sh"}]}, "users[0].name", "missing"),
        ({"users": [{"name": "a", "passwd": "plain"}]}, "users[0].passwd", "crypt"),
        ({"users": [{"name": "a", "groups": "a b"}]}, "users[0].groups[0]", "group"),
        (
            {"users": [{"name": "a", "ssh_authorized_keys": ["x"]}]},
            "users[0].ssh_authorized_keys line 1",
            "key",
        ),
        ({"chpasswd": {"list": "ro ot:x"}}, "chpasswd.list line 1", "useradd"),
        ({"chpasswd": {"list": ":x"}}, "chpasswd.list line 1", "no account"),
        ({"chpasswd": {"list": "bob:" + "x" * 600}}, "chpasswd.list line 1", "one line"),
        ({"users": [{"name": ""}]}, "users[0].name", "empty"),
        ({"users": [{"name": "a", "plain_text_passwd": "x\ny"}]}, "users[0].plain_text_passwd", "one line"),
        ({"password": "x\ny"}, "password", "one line"),
        ({"chpasswd": {"list": "bob:RANDOM"}}, "chpasswd.list line 1", "random"),
        ({"write_files": [{"path": "x"}]}, "write_files[0].path", "absolute"),
        ({"write_files": [{"path": "/x", "content": "%", "encoding": "b64"}]}, "write_files[0]", "base64"),
        (
            {"write_files": [{"path": "/x", "encoding": "rot13"}]},
            "write_files[0].encoding",
            "not a known word",
        ),
        ({"write_files": [{"path": "/x", "content": "x", "encoding": "gz"}]}, "write_files[0]", "gzip"),
        ({"write_files": [{"path": "/x", "permissions": 9}]}, "write_files[0].permissions", "file mode"),
        ({"write_files": [{"path": "/x", "owner": "a b"}]}, "write_files[0]", "account"),
        ({"runcmd": ["ls", {"a": 1}]}, "runcmd[1]", "not a string"),
        ({"timezone": "/etc/shadow"}, "timezone", "time zone"),
    ],
)
def test_a_wrong_item(document: dict[str, Any], path: str, said: str) -> None:
    config, reading = cloud(hostname="vm1", **document)
    told = {problem.path: problem for problem in reading.problems}
    assert said in told[f"user-data: {path}"].message, told
    assert told[f"user-data: {path}"].hint
    assert config.partial
    assert config.hostname == "vm1"


def test_each_key_that_is_not_handled_is_named_once() -> None:
    _, reading = cloud(puppet={}, chef={"x": 1}, authkey_hash="sha512")
    assert sorted((problem.path, problem.severity) for problem in reading.problems) == [
        ("user-data: authkey_hash", "harmless"),
        ("user-data: chef", "unsupported"),
        ("user-data: puppet", "unsupported"),
    ]


def test_vendor_data_overrides_nothing() -> None:
    vendor = json.dumps(
        {
            "hostname": "other",
            "timezone": "Etc/UTC",
            "users": [{"name": "bob", "passwd": "$6$vendor$vendor", "shell": "/bin/false"}],
            "write_files": [{"path": "/etc/motd", "content": "vendor"}],
            "runcmd": ["echo vendor"],
        }
    )
    config, reading = read(drives.CLOUD_CONFIG.encode(), vendor=b"#cloud-config\n" + vendor.encode())
    assert (config.hostname, config.timezone) == ("from-user-data", "Europe/Paris")
    (bob,) = (user for user in config.users if user.name == "bob")
    assert (bob.password, bob.shell, bob.locked) == (HASH, "/bin/bash", False)
    assert [reading.files[file.name] for file in config.files if file.path == "/etc/motd"] == [b"hello\n"]
    assert [script.name for script in config.scripts] == ["runcmd", "vendor-runcmd"]


def test_no_problem_quotes_a_value() -> None:
    secret = "s3cr3t-value"
    _, reading = cloud(
        password=secret + "\n",
        chpasswd={"list": f"{secret}!:{secret}"},
        users=[{"name": "a", "passwd": secret, "ssh_authorized_keys": [secret], "sudo": secret + "\n x"}],
        write_files=[{"path": secret, "content": secret}],
    )
    assert len(reading.problems) >= 5
    assert not [problem for problem in reading.problems if secret in f"{problem}"]


def test_user_data_with_a_password_in_plain_text_is_not_kept_though_another_one_counts() -> None:
    draft = Draft("test")
    draft.add_password("", "first", "vm_password.txt", form=PasswordForm.PLAIN)
    user_data.read(b"#cloud-config\npassword: s3cr3t\n", "user-data", draft)
    reading = draft.reading()
    assert reading.secrets == {"": "first"}
    assert not reading.files
    hashed = {"name": "a", "passwd": HASH, "plain_text_passwd": "s3cr3t"}
    assert not cloud(users=[hashed])[1].files


def test_a_later_item_of_write_files_overwrites_the_file() -> None:
    items = [
        {"path": "/etc/a", "content": "one", "defer": True},
        {"path": "/etc/a", "content": "two"},
        {"path": "/etc/a", "content": "?", "encoding": "b64"},
        {"path": "/etc/b", "content": "one", "append": True},
        {"path": "/etc/b", "content": "two", "append": True},
    ]
    draft = Draft("test")
    user_data.read(b"#cloud-config\n" + json.dumps({"write_files": items}).encode(), "user-data", draft)
    later = b'#cloud-config\n{"write_files": [{"path": "/etc/a", "content": "three"}]}'
    user_data.read(later, "vendor-data", draft, vendor=True)
    reading = draft.reading()
    assert reading.config is not None
    assert not reading.config.deferred
    written = [(file.path, reading.files[file.name]) for file in reading.config.files]
    assert written == [("/etc/a", b"two"), ("/etc/b", b"onetwo")]
    said = {problem.path: problem.message for problem in reading.problems}
    assert "overwritten" in said["user-data: write_files[0]"]
    assert "base64" in said["user-data: write_files[2]"]
    assert "the first is used" in said["vendor-data: write_files[0]"]
