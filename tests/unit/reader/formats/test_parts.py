"""Each type of part, by header and by first line; the layers around it; several cloud-configs at once."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from agent.config.model import PER_BOOT, PER_INSTANCE, PER_ONCE, InstanceConfig
from agent.reader.common.merge import Draft
from agent.reader.common.problem import ERROR, HARMLESS, UNSUPPORTED, Problem
from agent.reader.common.result import Reading
from agent.reader.formats import user_data, yaml_events

SCRIPT = "#!/bin/sh\necho hello\n"
CONFIG = "#cloud-config\nhostname: vm1\n"


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    yaml_events.load()


def read(raw: bytes | str, **more: Any) -> tuple[InstanceConfig, Reading]:
    draft = Draft("test")
    user_data.read(raw if isinstance(raw, bytes) else raw.encode(), "user-data", draft, **more)
    reading = draft.reading()
    assert reading.config is not None
    return reading.config, reading


def message(*parts: tuple[str, str]) -> bytes:
    """Return a message of (headers, content) pairs."""
    body = "".join(f"--b\n{head}\n\n{content}\n" for head, content in parts)
    return f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{body}--b--\n".encode()


def typed(kind: str, content: str, **headers: str) -> tuple[str, str]:
    more = "".join(f"\n{name.replace('_', '-')}: {value}" for name, value in headers.items())
    return f"Content-Type: {kind}{more}", content


def _problem(reading: Reading) -> Problem:
    (problem,) = reading.problems
    return problem


# -- what runs, and when -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "frequency"),
    [
        ("text/x-shellscript", "user-script", PER_INSTANCE),
        ("TEXT/X-ShellScript", "user-script", PER_INSTANCE),
        ("text/x-shellscript-per-boot", "user-per-boot", PER_BOOT),
        ("text/x-shellscript-per-instance", "user-per-instance", PER_INSTANCE),
        ("text/x-shellscript-per-once", "user-per-once", PER_ONCE),
    ],
)
def test_how_often_a_script_runs(kind: str, name: str, frequency: str) -> None:
    config, reading = read(message(typed(f'{kind}; charset="us-ascii"', SCRIPT)))
    assert not reading.problems
    assert [(one.name, one.frequency) for one in config.scripts] == [(name, frequency)]
    assert reading.files[name].decode().rstrip("\n") == SCRIPT.rstrip("\n")


def test_scripts_run_by_kind_and_then_by_name() -> None:
    named = 'Content-Disposition: attachment; filename="{}"'.format
    config, _ = read(
        message(
            typed("text/cloud-config", "runcmd: [x]"),
            (f"Content-Type: text/x-shellscript\n{named('z.sh')}", SCRIPT + "#z"),
            typed("text/x-shellscript", SCRIPT + "#third part"),
            (f"Content-Type: text/x-shellscript-per-boot\n{named('b')}", SCRIPT + "#b"),
            (f"Content-Type: text/x-shellscript-per-boot\n{named('/x/a')}", SCRIPT + "#a"),
            typed("text/x-shellscript-per-once", SCRIPT + "#once"),
        )
    )
    assert [one.name for one in config.scripts] == [
        "user-per-once",
        "user-per-boot-2",
        "user-per-boot",
        "user-script-2",
        "runcmd",
        "user-script",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        "#cloud-boothook\n" + SCRIPT,
        message(typed("text/cloud-boothook", "#cloud-boothook\n\n" + SCRIPT)),
        message(typed("text/cloud-boothook", SCRIPT)),
        message(typed("text/plain", "#Cloud-Boothook\r\n" + SCRIPT)),
        message(typed("text/x-shellscript", "#cloud-boothook\n" + SCRIPT)),
    ],
    ids=range(5),
)
def test_a_boothook_runs_early_at_each_boot(raw: bytes | str) -> None:
    config, reading = read(raw)
    assert not reading.problems
    assert ([one.name for one in config.boot], config.scripts) == (["user-boothook"], ())
    assert reading.files["user-boothook"].decode().startswith(SCRIPT.rstrip("\n"))


def test_a_boothook_runs_before_bootcmd() -> None:
    config, _ = read(
        message(typed("text/cloud-config", "bootcmd: [x]"), typed("text/cloud-boothook", SCRIPT))
    )
    assert [one.name for one in config.boot] == ["user-boothook", "bootcmd"]


# -- what does not -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("#include", "text/x-include-url"),
        ("#include-once", "text/x-include-once-url"),
        ("#cloud-config-jsonp", "text/cloud-config-jsonp"),
        ("#part-handler", "text/part-handler"),
        ("#upstart-job", "text/upstart-job"),
    ],
)
def test_a_type_that_is_not_handled(first: str, kind: str) -> None:
    by_line, by_header = (
        _problem(read(raw)[1])
        for raw in (f"{first}\nhttp://192.0.2.1/\n", message(typed(kind, "http://192.0.2.1/")))
    )
    assert by_line.severity == by_header.severity == ERROR
    assert by_line.message == by_header.message
    assert "192.0.2.1" not in by_line.message
    assert by_line.hint


def test_an_unknown_type_is_named() -> None:
    config, reading = read(message(typed("text/x-lisp", SCRIPT), typed("text/x-shellscript", SCRIPT)))
    problem = _problem(reading)
    assert (problem.path, problem.severity) == ("user-data, part 1", UNSUPPORTED)
    assert "text/x-lisp" in problem.message
    assert len(config.scripts) == 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (message(typed("text/x-shellscript-per-boot", CONFIG)), "its first line does not"),
        (message(typed("text/cloud-boothook", CONFIG)), "its first line does not"),
        (message(typed("text/x-shellscript", "x", Content_Transfer_Encoding="base64")), "damaged base64"),
        (
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--b\n\n#!/bin/sh\n",
            "without its parts",
        ),
    ],
)
def test_a_damaged_message(raw: bytes | str, said: str) -> None:
    config, reading = read(raw)
    problem = _problem(reading)
    assert (problem.severity, config.scripts) == (ERROR, ())
    assert said in problem.message


@pytest.mark.parametrize(
    "raw",
    [
        "#cloud-config\\nhostname: web1\\n",
        "#cloud-config%0Ahostname%3A%20web1%0A",
        "#cloud-config hostname: web1",
        "#cloud-config {hostname: web1}\n",
        "#!/bin/sh\\ntouch /x\\n",
        "#!/bin/sh%0atouch%20/x",
        "#cloud-boothook\n#!/bin/sh\\ntouch /x",
    ],
)
def test_lost_line_ends(raw: str) -> None:
    config, reading = read(raw)
    problem = _problem(reading)
    assert problem.severity == ERROR
    assert "line ends" in problem.hint
    assert not config.scripts
    assert not config.boot


def test_a_value_on_the_first_line_beside_others() -> None:
    config, reading = read("#cloud-config hostname: web1\ntimezone: Etc/UTC\n")
    assert config.timezone == "Etc/UTC"
    assert "nothing is read" in _problem(reading).message


@pytest.mark.parametrize(
    "raw", ["#cloud-config\n", "#cloud-config\n# hostname: x\n", "#cloud-config # mine\n{}\n"]
)
def test_nothing_in_a_cloud_config(raw: str) -> None:
    assert not read(raw)[1].problems


# -- layers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw: raw,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b" \r\n\t\n" + raw,
        lambda raw: b"\n\xef\xbb\xbf\n" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.decode().encode("utf-16"),
        b64encode,
        lambda raw: b64encode(gzip.compress(raw)),
        lambda raw: gzip.compress(b64encode(raw)),
        lambda raw: b64encode(gzip.compress(b"\xef\xbb\xbf" + raw)) + b"\n",
    ],
    ids=["plain", "BOM", "blanks", "both", "CRLF", "UTF-16", "base64", "gzip in it", "it in gzip", "all"],
)
@pytest.mark.parametrize("content", [SCRIPT, CONFIG, "#cloud-boothook\n" + SCRIPT])
def test_each_layer(wrap: Any, content: str) -> None:
    config, reading = read(wrap(content.encode()))
    expected, plain = read(content)
    assert not reading.problems
    assert config == expected
    assert {name: text for name, text in reading.files.items() if name != "user-data"} == {
        name: text for name, text in plain.files.items() if name != "user-data"
    }


def test_bytes_of_a_program_stay_as_they_are() -> None:
    _, reading = read(b"#!/bin/sh\r\nexit\r\n\0\r\n")
    assert reading.files["user-script"] == b"#!/bin/sh\nexit\r\n\0\r\n"
    _, reading = read("#!/bin/sh\necho 'a\r\n'\n")
    assert reading.files["user-script"] == b"#!/bin/sh\necho 'a\r\n'\n"


def test_gzip_in_base64_of_a_part() -> None:
    packed = b64encode(gzip.compress(SCRIPT.encode())).decode()
    raw = message(typed("application/x-gzip", packed, Content_Transfer_Encoding="base64"))
    assert [one.name for one in read(raw)[0].scripts] == ["user-script"]


# -- templates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}-x\n",
        "##template:Jinja\n#cloud-config\nhostname: {{ ds.meta_data.local_hostname }}-x\n",
        message(typed("text/jinja2", "#cloud-config\nhostname: {{ local_hostname }}-x\n")),
        message(typed("text/cloud-config", "## template: jinja\nhostname: {{ local_hostname }}-x\n")),
    ],
    ids=range(4),
)
def test_a_template(raw: bytes | str) -> None:
    config, reading = read(raw, metadata={"local-hostname": "vm1"})
    assert not reading.problems
    assert config.hostname == "vm1-x"


def test_a_template_that_is_more_costs_its_part() -> None:
    text = "## template: jinja\n#cloud-config\nhostname: {{ x | upper }}\n"
    config, reading = read(message(typed("text/plain", text), typed("text/plain", SCRIPT)))
    assert _problem(reading).path == "user-data, part 1"
    assert (config.hostname, len(config.scripts)) == (None, 1)


# -- Launch-Index ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "names"),
    [({"launch_index": "1"}, ["user-script"]), ({"launch-index": 0}, []), ({}, ["user-script"])],
)
def test_a_part_for_one_of_several_machines(here: dict[str, Any], names: list[str]) -> None:
    config, reading = read(message(typed("text/x-shellscript", SCRIPT, Launch_Index="1")), metadata=here)
    assert [one.name for one in config.scripts] == names
    assert [problem.severity for problem in reading.problems] == ([] if names else [HARMLESS])


@pytest.mark.parametrize("key", ["launch-index", "launch_index", "Launch-Index"])
def test_a_launch_index_within_the_cloud_config(key: str) -> None:
    text = f"#cloud-config\n{key}: 3\nhostname: vm1\n"
    assert read(text, metadata={"launch_index": "0"})[0].hostname is None
    assert read(text, metadata={"launch_index": "3"})[0].hostname == "vm1"


def test_a_launch_index_that_is_no_number_costs_the_part() -> None:
    config, reading = read(message(typed("text/x-shellscript", SCRIPT, Launch_Index="first")))
    assert (_problem(reading).severity, config.scripts) == (ERROR, ())


# -- several cloud-configs ---------------------------------------------------------------


FIRST, SECOND = "runcmd: [a]\nhostname: vm1\n", "runcmd: [b]\ntimezone: Etc/UTC\n"


def test_a_later_key_replaces_an_earlier_one() -> None:
    config, reading = read(message(typed("text/cloud-config", FIRST), typed("text/cloud-config", SECOND)))
    assert reading.files["runcmd"] == b"#!/bin/sh\nb\n"
    assert (config.hostname, config.timezone) == ("vm1", "Etc/UTC")
    problem = _problem(reading)
    assert (problem.path, problem.severity) == ("user-data, part 1: runcmd", HARMLESS)
    assert "user-data, part 2" in problem.message


@pytest.mark.parametrize("header", ["Merge_Type", "X_Merge_Type"])
def test_rules_of_a_parts_header(header: str) -> None:
    how = {header: "list(append)+dict(recurse_list)+str()"}
    raw = message(typed("text/cloud-config", FIRST), typed("text/cloud-config", SECOND, **how))
    _, reading = read(raw)
    assert not reading.problems
    assert reading.files["runcmd"] == b"#!/bin/sh\na\nb\n"


def test_rules_that_cannot_be_read_cost_their_part() -> None:
    wrong = typed("text/cloud-config", SECOND, Merge_Type="list(addend)")
    config, reading = read(message(typed("text/cloud-config", FIRST), wrong))
    problem = _problem(reading)
    assert (problem.path, problem.severity) == ("user-data, part 2", ERROR)
    assert (config.timezone, reading.files["runcmd"]) == (None, b"#!/bin/sh\na\n")
    assert config.partial


def test_a_password_that_is_replaced_is_still_not_stored() -> None:
    first, second = "password: s3cr3t", "password: $6$salt$" + "x" * 86
    deleted = "password: null\nmerge_how: dict(allow_delete)"
    assert not read(message(typed("text/cloud-config", first), typed("text/cloud-config", deleted)))[1].files
    for headers in ({}, {"Merge_Type": "no"}, {"Launch_Index": "7"}):
        raw = message(typed("text/cloud-config", first, **headers), typed("text/cloud-config", second))
        _, reading = read(raw, metadata={"launch_index": "0"})
        assert not reading.files


@pytest.mark.parametrize("joined", [True, False])
def test_documents_that_were_joined_with_their_first_lines(joined: bool) -> None:
    config, reading = read(f"#cloud-config\n{FIRST}\n\n#cloud-config\n{SECOND}", is_joined=joined)
    assert (config.hostname, config.timezone) == ("vm1", "Etc/UTC")
    assert reading.files["runcmd"] == b"#!/bin/sh\nb\n"
    assert _problem(reading).path == "user-data, document 1: runcmd"


def test_documents_that_were_joined_without_the_second_ones_first_line() -> None:
    how = "merge_how: 'list(append)+dict(recurse_list)'\n"
    text = f"#cloud-config\n{FIRST}\n\n"
    config, reading = read(text + SECOND, is_joined=True)
    assert (config.hostname, config.timezone) == ("vm1", "Etc/UTC")
    assert _problem(reading).severity == HARMLESS
    _, reading = read(text + SECOND + how, is_joined=True)
    assert not reading.problems
    assert reading.files["runcmd"] == b"#!/bin/sh\na\nb\n"
    assert _problem(read(text + SECOND)[1]).severity == ERROR, (
        "elsewhere it is one document with a key twice"
    )


# -- archives ----------------------------------------------------------------------------


@pytest.mark.parametrize("by_header", [True, False])
def test_an_archive(by_header: bool) -> None:
    text = """#cloud-config-archive
- "#!/bin/sh\\nfirst\\n"
- type: text/x-shellscript-per-boot
  content: |
    #!/bin/sh
    each
- content: "runcmd: [a]"
- {type: text/cloud-config, content: "runcmd: [b]", Merge-Type: list(append)+dict(recurse_list)}
- {content: "hostname: other", launch-index: 4}
- content: !!binary IyEvYmluL3NoCg==
- {content: "", filename: empty}
"""
    raw = message(typed("text/cloud-config-archive", text)) if by_header else text
    config, reading = read(raw, metadata={"launch_index": "0"})
    assert [problem.severity for problem in reading.problems] == [HARMLESS]
    assert [one.name for one in config.scripts] == [
        "user-per-boot",
        "user-script",
        "user-script-2",
        "runcmd",
    ]
    assert reading.files["runcmd"] == b"#!/bin/sh\na\nb\n"
    assert config.hostname is None


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("a: 1", "", "not a list"),
        ("- {type: text/plain}", "[0].content", "missing"),
        ("- {content: 'a: 1', typ: x}", "[0].typ", "unknown key"),
        ("- 'hostname: vm1'\n- [x]", "[1]", "dictionary"),
        ("- '#include\n\n    http://192.0.2.1/'", "[0]", "#include"),
    ],
)
def test_a_wrong_archive(text: str, path: str, said: str) -> None:
    config, reading = read(f"#cloud-config-archive\n{text}\n")
    problem = _problem(reading)
    assert problem.path in (f"user-data{path}", f"user-data: {path}")
    assert said in problem.message
    assert config.hostname == ("vm1" if "vm1" in text else None)


# -- nothing is lost without a word ------------------------------------------------------

_ALL_KINDS = (
    typed("text/cloud-config", "hostname: vm1\nruncmd: [a]"),
    typed("text/cloud-config", "runcmd: [b]", Merge_Type="list(append)+dict(recurse_list)"),
    typed("text/cloud-config", "hostname: vm2"),
    typed("text/cloud-config-archive", "- '#!/bin/sh'\n- 'timezone: Etc/UTC'"),
    typed("text/cloud-config-jsonp", "[]"),
    typed("text/cloud-boothook", SCRIPT),
    typed("text/x-shellscript", SCRIPT, Launch_Index="0"),
    typed("text/x-shellscript", SCRIPT, Launch_Index="1"),
    typed("text/x-shellscript-per-boot", SCRIPT, Content_Disposition="attachment; filename=b"),
    typed("text/x-shellscript-per-boot", SCRIPT + "#", Content_Disposition="attachment; filename=a"),
    typed("text/x-shellscript-per-once", SCRIPT),
    typed("text/x-shellscript-per-instance", SCRIPT),
    typed("text/x-include-url", "http://192.0.2.1/"),
    typed("text/x-include-once-url", "http://192.0.2.1/"),
    typed("text/part-handler", "def list_types(): pass"),
    typed("text/upstart-job", "start on boot"),
    typed("text/jinja2", "#!/bin/sh\necho {{ v1.instance_id }}"),
    typed("text/plain", "what an application reads"),
    typed("text/markdown", "# title"),
)


def _result(parts: Sequence[tuple[str, str]]) -> object:
    config, reading = read(message(*parts), metadata={"launch_index": "0", "instance-id": "i-1"})
    files = {name: text for name, text in reading.files.items() if name != "user-data"}
    # Without the numbers of parts, which differ anyway.
    said = sorted(re.sub(r"[0-9]+", "", f"{one.path} {one.message}") for one in reading.problems)
    return config, files, said


@pytest.mark.parametrize("left_out", range(len(_ALL_KINDS)))
def test_each_part_changes_the_configuration_or_the_messages(left_out: int) -> None:
    others = [part for n, part in enumerate(_ALL_KINDS) if n != left_out]
    assert _result(others) != _result(_ALL_KINDS)


@pytest.mark.parametrize("name", ["Merge-Type", "Launch-Index", "Content-Disposition"])
def test_each_header_changes_the_configuration_or_the_messages(name: str) -> None:
    without = [(re.sub(rf"\n{name}: .*", "", head), content) for head, content in _ALL_KINDS]
    assert _result(without) != _result(_ALL_KINDS)
