"""/etc/default/gandi is shell syntax, read without a shell; an invalid line affects only its own setting."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from agent.config.settings import FIELDS, FILES, MountMode, Settings, SettingsFile, assigned, parse
from agent.host.host import Host


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("CONFIG_HOSTNAME=0", "hostname", False),
        ("export CONFIG_HOSTNAME=no  # ours", "hostname", False),
        ('CONFIG_NODHCP="eth0 eth1"', "nodhcp", ("eth0", "eth1")),
        ("CONFIG_NODHCP=''", "nodhcp", ()),
        ("CONFIG_MOUNT_PARAMS='rw,nosuid'", "mount_params", "rw,nosuid"),
        ("  CONFIG_MOUNT_TIMEOUT=30", "mount_timeout", 30),
        ("CONFIG_MOUNT_MODE=autofs", "mount_mode", MountMode.AUTOFS),
        ("CONFIG_MEMORY_ONLINE=1", "memory_online", "auto"),
        ("CONFIG_DISK_FORMAT=0", "disk_format", ""),
        ("GANDI_PLUGIN_DIR=/opt/plugins", "plugin_dir", "/opt/plugins"),
        ("CONFIG_DATASOURCE=", "datasource", ("auto",)),
        ('CONFIG_DATASOURCE="openstack, gandi"', "datasource", ("openstack", "gandi")),
        ("CONFIG_REPORT=0", "report", "0"),
        (
            'CONFIG_REPORT_URL="https://[2001:db8::1]:8443/a?b=$c"',
            "report_url",
            "https://[2001:db8::1]:8443/a?b=$c",
        ),
        ('CONFIG_REPORT_URL=""', "report_url", ""),
        ("CONFIG_MOUNT_OWNER=root:1001:0775", "mount_owner", "root:1001:0775"),
        ("CONFIG_DEFAULT_USER=a#b # don't", "default_user", "a#b"),
        ("CONFIG_DEFAULT_USER='a'#b\t#c", "default_user", "a#b"),
        ("CONFIG_DEFAULT_USER=a\\ #b", "default_user", "a #b"),
        ('CONFIG_DEFAULT_USER="a #b\\" #c" #d', "default_user", 'a #b" #c'),
        ("CONFIG_DEFAULT_USER=#a", "default_user", "#a"),
    ],
)
def test_a_good_line_sets_its_value(line: str, name: str, value: object) -> None:
    settings, problems = parse(line + "\n")
    assert getattr(settings, name) == value
    assert problems == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("CONFIG_HOSTNAME=maybe", "neither 0 nor 1"),
        ("CONFIG_MOUNT_TIMEOUT=-1", "not a number of seconds"),
        ('CONFIG_NODHCP="eth0', "no closing quotation"),
        ("CONFIG_NODHCP=eth0 eth1", "more than one word"),
        ("CONFIG_MOUNT_MODE=sometimes", "not known"),
        ("CONFIG_DISK_ROOT=srv", "not an absolute path"),
        ("CONFIG_DISK_ROOT=/srv/../etc", "not an absolute path"),
        ("CONFIG_MOUNT_OWNER=root", "not user:group:mode"),
        ("CONFIG_MOUNT_OWNER=root:root:rwx", "not user:group:mode"),
        ("CONFIG_RENDERER=windows", "not known"),
        ("CONFIG_REPORT=always", "not known"),
        ("CONFIG_REPORT_URL=ftp://192.0.2.1/", "not an http or https URL"),
        ("CONFIG_REPORT_URL=https://me:secret@192.0.2.1/", "not an http or https URL"),
        ("CONFIG_REPORT_URL=https://192.0.2.1/a#b", "not an http or https URL"),
        ("CONFIG_REPORT_URL=https://192.0.2.1/\udcff", "not an http or https URL"),
        ("if true; then", "not an assignment"),
        ("CONFIG_=", "unknown setting"),
    ],
)
def test_a_wrong_line_is_reported_with_its_number_and_the_rest_is_used(line: str, says: str) -> None:
    settings, problems = parse(f"# settings\nCONFIG_SSHD=0\n{line}\nCONFIG_CRON=0\n")
    assert [p.line for p in problems] == [3]
    assert says in problems[0].message
    assert problems[0].hint
    assert settings == Settings(sshd=False, cron=False)


@pytest.mark.parametrize(
    "value", ["a#b # c", "'a'#b", "a\\ #b", '"a #b\\"" #d', "#a", "a\\#b #'", "a'#'b\t#"]
)
def test_a_comment_begins_where_it_does_in_a_shell(value: str) -> None:
    line = f"X={value}"
    done = subprocess.run(
        ["sh", "-c", f'{line}\nprintf %s "$X"'], capture_output=True, check=True, text=True
    )
    assert assigned(line) == ("X", done.stdout)


def test_a_wrong_line_keeps_the_last_good_value() -> None:
    good, _ = parse("CONFIG_MOUNT_TIMEOUT=5\n")
    settings, problems = parse("CONFIG_MOUNT_TIMEOUT=soon\n", good)
    assert settings.mount_timeout == 5
    assert len(problems) == 1


def test_an_unknown_name_gets_a_suggestion() -> None:
    _, problems = parse("CONFIG_HOSTNAMES=0\n")
    assert problems[0].hint == "did you mean CONFIG_HOSTNAME?"


def test_retired_and_foreign_names_are_no_problem() -> None:
    assert parse("SERVERURL=x\nTEMP_DIR_CONF=/tmp\nPATH=/bin\n") == (Settings(), [])


def test_the_last_assignment_counts_as_in_a_shell() -> None:
    assert parse("CONFIG_CRON=0\nCONFIG_CRON=1\n")[0].cron


def test_the_shipped_file_names_every_setting_and_changes_none() -> None:
    text = (Path(__file__).parents[3] / "etc-default/gandi").read_text()
    assert parse(text) == (Settings(), [])
    assert set(re.findall(r"^#? ?((?:CONFIG|GANDI)_\w+)=", text, re.MULTILINE)) == set(FIELDS)


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    host = Host(tmp_path)
    file = SettingsFile(host)
    assert file.current() == Settings()
    host.write(FILES[0], "CONFIG_CRON=0\n")
    assert file.current() is file.current()
    assert not file.settings.cron
    host.write(FILES[0], "CONFIG_CRON=oops\n")
    assert not file.current().cron, "the last good value stays"
    assert file.problems[0].line == 1
    os.unlink(host.path(FILES[0]))
    assert file.current() == Settings()
    assert file.problems == []


def test_the_file_of_rpm_systems_is_read_where_it_is_the_only_one(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write(FILES[1], "CONFIG_CRON=0\n")
    file = SettingsFile(host)
    assert not file.current().cron
    assert file.name == FILES[1]


def test_a_file_that_cannot_be_read_is_told_and_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc/default/gandi").mkdir(parents=True)
    file = SettingsFile(Host(tmp_path))
    assert file.current() == Settings()
    assert "cannot be read" in file.problems[0].message
