"""The settings in force as a shell reads them: each with its value, and nothing that it would run."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
from pathlib import Path

from agent.config.settings import FIELDS, Settings, SettingsFile, parse
from agent.config.settings_text import shell_text, spelled
from agent.host.host import Host

SHIPPED = Path(__file__).parents[3] / "etc-default/gandi"


def made(root: Path, text: str) -> tuple[str, dict[str, str]]:
    """The text for the settings file, and each variable that a shell has after it."""
    file = SettingsFile(Host(root))
    file.host.write(file.name, text.encode("utf-8", "surrogateescape"))
    assignments = shell_text(file)
    (root / "settings").write_text(assignments, errors="surrogateescape")
    names = re.findall(r"^(?:export )?(\w+)=", assignments, re.MULTILINE)
    print_all = " ".join(f'"${{{name}-unset}}"' for name in names)
    done = subprocess.run(
        ["sh", "-c", f". ./settings; printf '%s\\0' {print_all}"], cwd=root, capture_output=True, check=True
    )
    assert done.stderr == b""
    return assignments, dict(
        zip(names, done.stdout.decode(errors="surrogateescape").split("\0"), strict=False)
    )


def test_each_default_is_spelled_as_in_the_shipped_file(tmp_path: Path) -> None:
    _, found = made(tmp_path, "")
    lines = re.findall(r"^#?((?:CONFIG|GANDI)_\w+=.*)$", SHIPPED.read_text(), re.MULTILINE)
    assert found == {
        name: "".join(shlex.split(value)) for name, _, value in (one.partition("=") for one in lines)
    }
    assert set(found) == set(FIELDS)


def test_what_is_in_force_is_read_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        network=False,
        nodhcp=("eth0", "e*"),
        disk_root="/a 'b'",
        idle_exit=0,
        disk_format="xfs",
        datasource=("native", "none"),
    )
    wanted = {name: spelled(settings, field) for name, field in FIELDS.items()}
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in wanted.items())
    assert parse(text) == (settings, [])
    assignments, found = made(tmp_path, text)
    assert found == wanted
    assert parse(assignments) == (settings, [])


def test_a_line_that_has_no_effect_on_the_agent_has_none_on_a_program(tmp_path: Path) -> None:
    _, found = made(
        tmp_path, "if true; then\nCONFIG_SSHD=perhaps\nCONFIG_DISK_ROOT=srv\nCONFIG_NODHCP=a b\nX=$(\n"
    )
    assert (found["CONFIG_SSHD"], found["CONFIG_DISK_ROOT"], found["CONFIG_NODHCP"]) == ("1", "/srv", "")


def test_other_variables_of_the_file_and_exported_ones(tmp_path: Path) -> None:
    text = "export MINE='a b'\nSERVERURL=https://192.0.2.1/\nexport CONFIG_CRON=no\nBROKEN='\n"
    assignments, found = made(tmp_path, text)
    assert assignments.startswith("export MINE='a b'\nSERVERURL='https://192.0.2.1/'\n")
    assert "\nexport CONFIG_CRON='0'\n" in assignments
    assert "BROKEN" not in found


def test_a_shell_runs_and_expands_nothing_in_a_value(tmp_path: Path) -> None:
    """Randomised: values of characters with a meaning to a shell."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    touch = f"touch {tmp_path}/ran"
    parts = [
        "'",
        '"',
        "\\",
        "$",
        "`",
        "$(",
        ")",
        "{",
        "}",
        ";",
        "&",
        "|",
        "<",
        ">",
        "*",
        "~",
        "!",
        "#",
        " ",
        "\t",
    ]
    parts += [
        "\r",
        "\x1b",
        "\x85",
        "\u2028",
        "é",
        "\udcff",
        f";{touch};",
        f"$({touch})",
        f"`{touch}`",
        f"';{touch};'",
    ]
    for _ in range(60):
        value = "".join(chance.choices(parts, k=chance.randrange(1, 9)))
        _, found = made(
            tmp_path, f"CONFIG_DISK_ROOT={shlex.quote(f'/{value}')}\nMINE={shlex.quote(value)}\n"
        )
        assert found["MINE"] == value
        assert found["CONFIG_DISK_ROOT"] == f"/{value}"
        assert not (tmp_path / "ran").exists()
