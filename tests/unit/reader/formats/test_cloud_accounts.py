"""#cloud-config: accounts, names, sshd and files. Each key is in the model, or is reported with its item."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.config.model import AccountOptions, File, Group, InstanceConfig, Naming, Sshd, User, dump, load
from agent.reader.common.merge import Draft, PasswordForm
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED
from agent.reader.common.result import Reading
from agent.reader.formats import user_data, yaml_events
from tests.unit.reader.dialects.test_gandi import HASH, key

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(text: str, draft: Draft | None = None) -> tuple[InstanceConfig, Reading]:
    draft = draft or Draft("test")
    user_data.read(f"#cloud-config\n{text}".encode(), "user-data", draft)
    reading = draft.reading()
    assert reading.config is not None
    assert load(dump(reading.config)) == reading.config, "it can be stored"
    return reading.config, reading


def problems(reading: Reading) -> dict[str, str]:
    """Return the severity of each problem, by its place."""
    return {problem.path.removeprefix("user-data: "): problem.severity for problem in reading.problems}


ACCOUNT = """users:
- name: carol
  uid: 1500
  homedir: /srv/carol
  no_user_group: true
  no-log-init: yes
  primary_group: staff
  Create_Groups: false
  gecos: Carol Roe
  inactive: "5"
  expiredate: 2032-09-01
  lock_passwd: false
"""
OPTIONS = AccountOptions(
    uid=1500,
    home="/srv/carol",
    user_group=False,
    log_init=False,
    primary_group="staff",
    create_groups=False,
    gecos="Carol Roe",
    inactive=5,
    expires="2032-09-01",
)


def test_each_key_of_an_account_is_in_the_model() -> None:
    config, reading = read(ACCOUNT)
    assert not reading.problems
    assert config.users == (User("carol", options=OPTIONS),)
    for line in ACCOUNT.split("\n")[2:-1]:
        assert read(ACCOUNT.replace(f"{line}\n", ""))[0] != config, line


def test_the_spelling_of_keys_is_free() -> None:
    config, reading = read("Users: [{Name: bob, Groups: 'adm, dev'}]\nUSER: {NAME: carol, ' groups': a}\n")
    assert not reading.problems
    assert {user.name: user.groups for user in config.users} == {"carol": ("a",), "bob": ("adm", "dev")}


def test_a_system_account_gets_no_home() -> None:
    config, _ = read("users: [{name: carol, system: true}, {name: dave, no_create_home: true}]")
    assert [user.options for user in config.users] == [
        AccountOptions(system=True, create_home=False),
        AccountOptions(create_home=False),
    ]


@pytest.mark.parametrize(
    "refused", ["doas", "selinux_user", "snapuser", "ssh_import_id", "ssh-redirect-user"]
)
def test_a_refused_key_costs_the_account(refused: str) -> None:
    config, reading = read(f"users:\n- {{name: carol, {refused}: x}}\n- dave\n")
    assert [user.name for user in config.users] == ["dave"]
    assert problems(reading) == {f"users[0].{refused}": ERROR}


@pytest.mark.parametrize(
    "wrong",
    ["uid: many", "system: perhaps", "homedir: relative", "expiredate: soon", "shell: bash", "inactive: x"],
)
def test_what_cannot_be_read_does_not_make_another_account(wrong: str) -> None:
    config, reading = read(f"users:\n- {{name: carol, {wrong}}}\n- dave\n")
    assert [user.name for user in config.users] == ["dave"]
    assert problems(reading) == {f"users[0].{wrong.partition(':')[0]}": ERROR}


@pytest.mark.parametrize("name", ["jane.roe", "Jroe", "JROE", "1user", ".x", "x" * 32])
def test_names_that_useradd_takes(name: str) -> None:
    config, reading = read(f"users: [{{name: {name}, groups: [{name}]}}]")
    assert not reading.problems
    assert [(user.name, user.groups) for user in config.users] == [(name, (name,))]


@pytest.mark.parametrize("name", ["123", "..", "jane@x", "a b", "-x", "x" * 33, "a/b", "ünal"])
def test_names_that_need_badname(name: str) -> None:
    config, reading = read(f"users: [{{name: '{name}'}}, bob]")
    assert [user.name for user in config.users] == ["bob"]
    assert problems(reading) == {"users[0].name": ERROR}


def test_a_wrong_key_and_a_wrong_group_cost_themselves() -> None:
    config, reading = read(
        f"users: [{{name: carol, groups: [adm, Domain Users, sudo], ssh_authorized_keys: ['{key()}', x]}}]"
    )
    assert config.users == (User("carol", keys=(key(),), groups=("adm", "sudo"), locked=True),)
    assert problems(reading) == {
        "users[0].groups[1]": ERROR,
        "users[0].ssh_authorized_keys line 2": ERROR,
    }


@pytest.mark.parametrize("end", ["ssh:", "at: home"])
def test_a_keys_comment_with_a_colon(end: str) -> None:
    config, reading = read(f"ssh_authorized_keys:\n- {key()} {end}\n")
    assert not reading.problems
    assert config.users == (User("", keys=(f"{key()} {end}",)),)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("dev, ops", (Group("dev"), Group("ops"))),
        ("[dev, ops: [carol, dave]]", (Group("dev"), Group("ops", ("carol", "dave")))),
        ("{dev: carol, ops: }", (Group("dev", ("carol",)), Group("ops"))),
    ],
)
def test_groups(groups: str, expected: tuple[Group, ...]) -> None:
    config, reading = read(f"groups: {groups}")
    assert not reading.problems
    assert config.groups == expected


@pytest.mark.parametrize("nothing", ["", "[]", "null", "''", "{}"])
def test_lists_without_an_item(nothing: str) -> None:
    config, reading = read(f"users: {nothing}\ngroups: {nothing}\nuser: {nothing}\nssh_keys: {{}}\n")
    assert not reading.problems
    assert (config.users, config.groups) == ((), ())


def test_more_names_than_are_read() -> None:
    names = ",".join(f"x{n}" for n in range(300))
    config, reading = read(f"users: '{names}'\ngroups: '{names}'\n")
    assert (len(config.users), len(config.groups)) == (256, 256)
    assert {problem.severity for problem in reading.problems} == {ERROR}
    assert len(reading.problems) == 2


def test_a_wrong_member_and_a_wrong_group_cost_themselves() -> None:
    config, reading = read("groups: [{dev: [carol, a b]}, 'x y']")
    assert config.groups == (Group("dev", ("carol",)),)
    assert problems(reading) == {"groups[0].members[1]": ERROR, "groups[1].name": ERROR}


# -- the default account -------------------------------------------------------------


@pytest.mark.parametrize(
    "user",
    ["user: carol", "User: {name: carol}", "users: [default]\nuser: {name: carol, lock-passwd: true}"],
)
def test_the_documents_user_gets_what_has_no_name(user: str) -> None:
    config, reading = read(f"{user}\npassword: {HASH}\nssh_authorized_keys: ['{key()}']\n")
    assert not reading.problems
    expires = AccountOptions(expire_password=True)
    assert config.users == (User("carol", HASH, (key(),), admin=True, options=expires),)


def test_the_platforms_keys_and_password_are_that_users_too() -> None:
    draft = Draft("test")
    draft.add_password("", "s3cr3t", "vm_password.txt", form=PasswordForm.PLAIN)
    user_data.read(b"#cloud-config\nuser: {name: carol, gecos: Carol}\n", "user-data", draft)
    draft.add_keys("", [key()], "public-keys.txt")
    reading = draft.reading()
    assert reading.config is not None
    (carol,) = reading.config.users
    assert (carol.name, carol.keys, carol.admin) == ("carol", (key(),), True)
    assert carol.options == AccountOptions(gecos="Carol")
    assert reading.secrets == {"carol": "s3cr3t"}


@pytest.mark.parametrize("user", ["a b", "{name: carol, doas: [x]}", "{name: carol, uid: x}", "[carol]"])
def test_what_is_meant_for_a_user_that_cannot_be_made_goes_to_no_other(user: str) -> None:
    config, reading = read(f"user: {user}\npassword: s3cr3t\nssh_authorized_keys: ['{key()}']\n")
    assert config.users == ()
    assert reading.secrets == {}
    assert problems(reading)["user"] == ERROR


def test_options_of_the_default_account_do_not_lock_it() -> None:
    config, _ = read("users: {default: {shell: /bin/zsh}, bob: true, eve: false}")
    assert config.users == (User("", shell="/bin/zsh"), User("bob", locked=True))
    assert read("user: {lock_passwd: true}")[0].users == (User("", locked=True),)


def test_keys_of_the_platform_that_are_not_wanted() -> None:
    draft = Draft("test")
    text = f"allow_public_ssh_keys: false\nssh_authorized_keys: ['{key('mine')}']\n"
    user_data.read(f"#cloud-config\n{text}".encode(), "user-data", draft)
    draft.add_keys("", [key()], "public-keys.txt")
    reading = draft.reading()
    assert reading.config is not None
    assert reading.config.users == (User("", keys=(key("mine"),)),)
    assert [problem.severity for problem in reading.problems] == [HARMLESS]


# -- passwords -----------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["*", "!", "!!"])
@pytest.mark.parametrize("form", ["users: [{{name: root, password: '{}'}}]", "list: ['root:{}']"])
def test_a_lock_is_never_a_password(lock: str, form: str) -> None:
    config, reading = read(f"chpasswd: {{{form.format(lock)}}}")
    assert config.users == (User("root", locked=True, options=AccountOptions(lock=lock)),)
    assert (reading.secrets, reading.problems) == ({}, [])


def test_a_hash_stays_when_a_later_document_locks() -> None:
    draft = Draft("test")
    for name, password in (("user-data", HASH), ("vendor-data", "*")):
        text = f"#cloud-config\nchpasswd: {{expire: false, list: ['bob:{password}']}}"
        user_data.read(text.encode(), name, draft, vendor=name == "vendor-data")
    config = draft.reading().config
    assert config is not None
    assert (config.users[0].password, config.users[0].locked) == (HASH, False)


@pytest.mark.parametrize(
    "text",
    [
        "users: [{name: ann, plain_text_passwd: s3cr3t, colour: red}]",
        "users: [{plain_text_passwd: s3cr3t}]",
        "users: [{name: ann, passwd: s3cr3t}]",
        "users: [{name: ann, plain-text-passwd: [s3cr3t]}]",
        "user: {name: ann, doas: x}\npassword: s3cr3t",
        "password: [s3cr3t]",
        "chpasswd: {list: ['no name:s3cr3t']}",
        "chpasswd: {list: [ann: s3cr3t]}",
        "chpasswd: 'ann:s3cr3t'",
        "chpasswd: {users: [{name: ann, password: s3cr3t, salt: y, type: text}]}",
        "password: s3cr3t\nusers: [",
        "hostname: vm1\n---\npassword: s3cr3t",
    ],
)
def test_data_with_a_plain_password_are_not_stored_also_if_it_is_left_out(text: str) -> None:
    _, reading = read(text)
    assert not reading.files
    assert problems(reading)["user-data"] in (ERROR, HARMLESS)


@pytest.mark.parametrize(
    "text",
    [
        f"users: [{{name: ann, passwd: {HASH}, lock_passwd: false}}]",
        f"chpasswd: {{expire: true, list: ['ann:{HASH}', 'bob:*'], users: [{{name: eve, type: RANDOM}}]}}",
        "password: null\nssh_pwauth: true",
    ],
)
def test_data_without_a_plain_password_are_stored(text: str) -> None:
    assert "user-data" in read(text)[1].files


def test_of_two_passwords_of_an_account_the_last_is_set_as_chpasswd_does() -> None:
    config, reading = read(f"chpasswd: {{expire: false, list: ['bob:{HASH}', 'ann:x', 'bob:*']}}")
    assert config.users[0] == User("bob", locked=True, options=AccountOptions(lock="*"))
    assert problems(reading) == {"chpasswd.list line 1": ERROR, "user-data": HARMLESS}


@pytest.mark.parametrize("entry", ["{name: bob, type: RANDOM}", "{name: bob, password: R}"])
def test_a_random_password_is_refused(entry: str) -> None:
    config, reading = read(f"chpasswd: {{users: [{entry}]}}")
    assert config.users == ()
    (problem,) = reading.problems
    assert (problem.path, problem.severity) == ("user-data: chpasswd.users[0]", ERROR)
    assert "console" in problem.message


def test_a_wrong_type_is_not_taken_for_a_hash() -> None:
    config, reading = read("chpasswd: {users: [{name: bob, password: x, type: rot13}]}")
    assert config.users == ()
    assert problems(reading) == {"chpasswd.users[0].type": ERROR, "user-data": HARMLESS}


# -- names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hostname", "naming"),
    [
        ("hostname: vm7\nfqdn: vm7.lab.example\n", "vm7", Naming("vm7.lab.example")),
        ("hostname: 7\nmanage_etc_hosts: true\n", "7", Naming(hosts="template")),
        ("hostname: vm7\nmanage-etc-hosts: localhost\n", "vm7", Naming(hosts="localhost")),
        ("hostname: vm7\nmanage_etc_hosts: false\n", "vm7", Naming(hosts="off")),
        ("hostname: vm7\npreserve_hostname: true\n", "vm7", Naming(preserve=True)),
        ("hostname: vm7\ncreate_hostname_file: false\n", "vm7", Naming(create_file=False)),
        (
            "hostname: a\nfqdn: b.example\nprefer_fqdn_over_hostname: true\n",
            "a",
            Naming("b.example", prefer_fqdn=True),
        ),
        ("fqdn: vm7.lab.example\n", "vm7.lab.example", None),
    ],
)
def test_names(text: str, hostname: str, naming: Naming | None) -> None:
    config, reading = read(text)
    assert not reading.problems
    assert (config.hostname, config.naming) == (hostname, naming)


# -- sshd ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sshd"),
    [
        ("ssh_pwauth: yes", Sshd(passwords=True)),
        ("ssh_pwauth: false", Sshd(passwords=False)),
        ("ssh_pwauth: unchanged", None),
        ("disable_root: true", Sshd(disable_root=True)),
        ("disable_root: false", Sshd(disable_root=False)),
        ("ssh_deletekeys: false", Sshd(delete_keys=False)),
        ("ssh_genkeytypes: [rsa, ED25519]", Sshd(key_types=("rsa", "ed25519"))),
        ("ssh_genkeytypes: ecdsa", Sshd(key_types=("ecdsa",))),
    ],
)
def test_options_of_sshd(text: str, sshd: Sshd | None) -> None:
    config, reading = read(text)
    assert not reading.problems
    assert config.sshd == sshd


def test_host_keys() -> None:
    kind = "ssh-ed25519-cert-v01@openssh.com"
    blob = len(kind).to_bytes(4) + kind.encode() + bytes(40)
    certificate = f"{kind} {base64.b64encode(blob).decode()} host"
    lines = PRIVATE.replace("\n", "\n    ")
    config, reading = read(
        f"ssh_keys:\n  ed25519_private: |\n    {lines}\n  ed25519_public: {key()}\n"
        f"  ed25519_certificate: {certificate}\n  rsa_private: x\n  dsa_public: {key()}\n"
        f"  rsa_public: {key()}\n  rsa_certificate: {key()}\n  ecdsa_public: {certificate}\n"
    )
    files = {file.path: (file.mode, reading.files[file.name].decode()) for file in config.files}
    assert files == {
        "/etc/ssh/ssh_host_ed25519_key": (0o600, f"{PRIVATE}\n"),
        "/etc/ssh/ssh_host_ed25519_key.pub": (0o644, f"{key()}\n"),
        "/etc/ssh/ssh_host_ed25519_key-cert.pub": (0o644, f"{certificate}\n"),
    }
    assert config.sshd == Sshd(certificates=("/etc/ssh/ssh_host_ed25519_key-cert.pub",), has_keys=True)
    wrong = ("rsa_private", "dsa_public", "rsa_public", "rsa_certificate", "ecdsa_public")
    assert problems(reading) == {f"ssh_keys.{name}": ERROR for name in wrong}


def test_what_is_not_shown_on_the_console() -> None:
    _, reading = read(
        "ssh: {emit_keys_to_console: true}\nno_ssh_fingerprints: true\nauthkey_hash: sha512\n"
        "ssh_publish_hostkeys: {enabled: true}\nssh_import_id: [gh:carol]\ndisable_root_opts: no-pty\n"
    )
    assert problems(reading) == {
        "ssh.emit_keys_to_console": UNSUPPORTED,
        "no_ssh_fingerprints": HARMLESS,
        "authkey_hash": HARMLESS,
        "ssh_publish_hostkeys": HARMLESS,
        "ssh_import_id": UNSUPPORTED,
        "disable_root_opts": UNSUPPORTED,
    }
    assert not read("ssh: {emit_keys_to_console: false}")[1].problems


# -- files and commands --------------------------------------------------------------


@pytest.mark.parametrize("mode", ["0644", "644", '"0644"', "0o644"])
def test_permissions_as_yaml_has_them(mode: str) -> None:
    config, reading = read(f"write_files: [{{path: /x, content: a, permissions: {mode}}}]")
    assert not reading.problems
    assert [file.mode for file in config.files] == [0o644]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("a", "text/plain"),
        ("YQ==", "b64"),
        ("YQ==", "base64"),
        ("!!binary YQ==", "text/plain"),
        ("H4sIAAAAAAAC/0sEAEO+t+gBAAAA", "gz+b64"),
        ("H4sIAAAAAAAC/0sEAEO+t+gBAAAA", "gzip+base64"),
        ("!!binary H4sIAAAAAAAC/0sEAEO+t+gBAAAA", "gz"),
        ("!!binary H4sIAAAAAAAC/0sEAEO+t+gBAAAA", "gzip"),
    ],
)
def test_encodings(content: str, encoding: str) -> None:
    config, reading = read(f"write_files: [{{path: /x, content: {content}, encoding: {encoding}}}]")
    assert not reading.problems
    assert [reading.files[file.name] for file in config.files] == [b"a"]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("source: {uri: 'https://192.0.2.80/x'}", "source"),
        ("source: {uri: 'https://192.0.2.80/x'}, content: a", "source"),
        ("content: {a: 1}", "content"),
        ("content: [a]", "content"),
        ("content: ", "content"),
    ],
)
def test_no_empty_file_in_place_of_content_that_is_not_there(more: str, place: str) -> None:
    config, reading = read(f"write_files: [{{path: /etc/a, {more}}}, {{path: /etc/b}}]")
    assert [file.path for file in config.files] == ["/etc/b"], "without content an empty one is meant"
    assert problems(reading) == {f"write_files[0].{place}": ERROR}


def test_numbers_of_json_where_text_is_meant() -> None:
    config, reading = read(
        '{"hostname": 7, "password": 123456, "write_files": [{"path": "/a", "content": 5}, {"path": "/b"}]}'
    )
    assert not [problem for problem in reading.problems if not problem.harmless]
    assert (config.hostname, reading.secrets) == ("7", {"": "123456"})
    assert [reading.files[file.name] for file in config.files] == [b"5", b""]


def test_a_deferred_file() -> None:
    config, reading = read("write_files: [{path: /a, content: a, defer: true}, {path: /b, content: b}]")
    assert not reading.problems
    assert [[file.path for file in files] for files in (config.files, config.deferred)] == [["/b"], ["/a"]]
    assert isinstance(config.deferred[0], File)


def test_empty_and_wrong_commands_cost_themselves() -> None:
    text = "- echo 1\n- \n- ''\n- []\n- [echo, 2, null]\n- echo: x\n- echo 3\n"
    _, reading = read(f"runcmd:\n{text}bootcmd:\n{text}")
    expected = b"#!/bin/sh\necho 1\necho 2\necho 3\n"
    assert (reading.files["runcmd"], reading.files["bootcmd"]) == (expected, expected)
    assert problems(reading) == {"runcmd[5]": ERROR, "bootcmd[5]": ERROR}
    assert not read("runcmd: [null, '']\n")[0].scripts


# -- every key -----------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "hostname": "vm7",
    "fqdn": "vm7.lab.example",
    "prefer_fqdn_over_hostname": True,
    "manage_etc_hosts": True,
    "preserve_hostname": True,
    "create_hostname_file": False,
    "user": {"name": "carol", "shell": "/bin/zsh"},
    "users": [
        "bob",
        {
            "name": "dave",
            "uid": 1500,
            "system": True,
            "homedir": "/srv/dave",
            "no_user_group": True,
            "no_log_init": True,
            "primary_group": "people",
            "groups": ["adm", "dev"],
            "create_groups": False,
            "gecos": "Dave",
            "inactive": 5,
            "expiredate": "2032-09-01",
            "sudo": ["ALL=(ALL) ALL"],
            "ssh_authorized_keys": [key()],
            "passwd": HASH,
            "lock_passwd": False,
        },
        {"name": "erin", "no_create_home": True, "hashed_passwd": HASH},
        {"name": "frank", "plain_text_passwd": "x"},
        {"name": "gail", "ssh_import_id": "gh:gail"},
    ],
    "groups": [{"dev": ["dave"]}, "ops"],
    "ssh_authorized_keys": [key()],
    "allow_public_ssh_keys": False,
    "password": "s3cr3t",
    "chpasswd": {"expire": False, "list": ["hugo:x"], "users": [{"name": "bob", "password": HASH}]},
    "ssh_pwauth": False,
    "disable_root": True,
    "ssh_deletekeys": False,
    "ssh_genkeytypes": ["rsa"],
    "ssh_keys": {"rsa_private": PRIVATE, "rsa_public": key(), "rsa_certificate": key()},
    "ssh": {"emit_keys_to_console": True},
    "no_ssh_fingerprints": True,
    "authkey_hash": "sha512",
    "ssh_publish_hostkeys": False,
    "ssh_import_id": "gh:carol",
    "disable_root_opts": "no-pty",
    "write_files": [
        {
            "path": "/a",
            "content": "YQ==",
            "encoding": "b64",
            "owner": "bob:adm",
            "permissions": "0600",
            "append": True,
            "defer": True,
        },
        {"path": "/b", "source": "https://192.0.2.1/b"},
    ],
    "runcmd": ["echo 1", ["echo", "2"]],
    "bootcmd": ["echo 3"],
}


def _result(document: dict[str, Any]) -> Any:
    draft = Draft("test")
    user_data.read(b"#cloud-config\n" + json.dumps(document).encode(), "user-data", draft)
    draft.add_keys("", [key("platform")], "public-keys.txt")
    reading = draft.reading()
    contents = {name: content for name, content in reading.files.items() if name != "user-data"}
    return reading.config, contents, reading.secrets, reading.problems


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from _leaves(one, (*path, step))
    if path and not isinstance(value, dict | list):
        yield path


@pytest.mark.parametrize("leaf", list(_leaves(EVERYTHING)), ids=str)
def test_no_value_is_lost_without_a_word(leaf: tuple[Any, ...]) -> None:
    document = copy.deepcopy(EVERYTHING)
    *above, last = leaf
    inside: Any = document
    for step in above:
        inside = inside[step]
    del inside[last]
    assert _result(document) != _result(copy.deepcopy(EVERYTHING))
