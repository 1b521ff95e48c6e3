"""The reader as a process: its answers, its rights, and what its client withstands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.lib.errors import HostError
from agent.reader import child, client
from agent.reader.client import Parsed
from tests.media import OFFSET, make_archive, swap_image
from tests.unit.reader.dialects.test_gandi import DOCUMENT

READER = Path(client.__file__).parent / "__main__.py"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


@pytest.fixture(params=["fork", "program"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to start the reader: a fork, or beside other threads a program."""
    threads = 1 if request.param == "fork" else 2
    monkeypatch.setattr(client, "threading", SimpleNamespace(active_count=lambda: threads))


def read(
    image: Path, archive: bytes, *, known: str = "", offset: int = OFFSET, size: int = 8 << 20
) -> Parsed:
    swap_image(image, max(size, offset + len(archive)), offset, archive=archive)
    descriptor = os.open(image, os.O_RDONLY)
    try:
        return client.parse_disk(descriptor, known_digest=known)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize("offset", [OFFSET, 0])
def test_an_archive(image: Path, offset: int) -> None:
    archive = make_archive(DOCUMENT, b"#!/bin/sh\n\xff", {"6.1-modules.tar.gz": b"gz"}, init=b"ELF")
    parsed = read(image, archive, offset=offset)
    assert parsed.config is not None
    assert parsed.config.hostname == "vm1"
    assert parsed.files["script"] == b"#!/bin/sh\n\xff"
    assert parsed.raw == json.dumps(DOCUMENT).encode()
    assert (parsed.is_recognised, parsed.is_complete, parsed.problems) == (True, True, ())
    (modules,) = parsed.modules
    assert image.read_bytes()[modules.offset :][: modules.size] == b"gz"
    start, length = parsed.extent
    assert start == offset
    assert not any(image.read_bytes()[start + length :])


def test_the_same_delivery_is_known_again_without_pydantic(image: Path) -> None:
    first = read(image, make_archive(DOCUMENT, b"x"))
    again = read(image, make_archive(DOCUMENT, b"x", mtime=1_800_000_000), known=first.digest)
    assert again.is_unchanged
    assert again.config is None
    assert not read(image, make_archive(DOCUMENT, b"y"), known=first.digest).is_unchanged
    timed = (sys.executable, "-X", "importtime", "-I", "-S", str(READER), "gandi", "disk", first.digest)
    with image.open("rb") as medium:
        done = subprocess.run(timed, stdin=medium, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["digest"]
    assert "agent.reader.formats.tar_archive" in done.stderr
    assert "pydantic" not in done.stderr


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (json.dumps(DOCUMENT).encode()[:-20], "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (b"[" * 200_000 + b"]" * 200_000, "not a JSON object"),
    ],
)
def test_a_document_that_is_none(image: Path, document: bytes, said: str) -> None:
    parsed = read(image, make_archive(document, b"x"))
    assert parsed.config is None
    (problem,) = parsed.problems
    assert problem.path == "gandi/config"
    assert said in problem.message


def test_nothing_that_lies_beside_the_packages_is_run(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: None
) -> None:
    """The module site would run import lines of *.pth files, and sitecustomize, before the reader drops its
    rights.
    """
    ran, here = tmp_path / "ran", f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    python, folder = tmp_path / "bin/python", tmp_path / here
    folder.mkdir(parents=True)
    python.parent.mkdir()
    python.symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "pyvenv.cfg").write_text(f"home = {python.resolve().parent}\n")
    (folder / "evil.pth").write_text(f"import os; os.mkdir({str(ran / 'pth')!r})\n")
    (folder / "sitecustomize.py").write_text(f"import os; os.mkdir({str(ran / 'customize')!r})\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.setattr(sys, "executable", str(python))
    ran.mkdir()
    assert read(image, make_archive(DOCUMENT)).config is not None
    assert list(ran.iterdir()) == []
    # First on the path: Debian's Python has a sitecustomize of its own.
    program = "import site, sys; sys.path.insert(0, sys.argv[1]); site.main()"
    subprocess.run((python, "-I", "-S", "-c", program, folder), check=True, timeout=60)
    assert {path.name for path in ran.iterdir()} == {"pth", "customize"}, "site would have run them"


def test_every_kind_of_problem_can_be_told_where_nothing_can_be_imported(image: Path) -> None:
    wrong = {"vm_hostnme": 1, "nameservers": ["x"], "vif": [{"vif_number": [], "pna": 3}, 4]}
    conf = {"user": "-", "password": "x", "ssh_key": "y", "script_args": "'", "run": 5}
    parsed = read(image, make_archive({**wrong, "vm_conf": conf}, b"x"))
    told = {problem.path for problem in parsed.problems}
    assert {"vm_hostnme", "vm_hostname", "vif[0].vif_number", "vif[1]", "nameservers[0]"} <= told
    assert {"vm_conf.user", "vm_conf.password", "vm_conf.ssh_key line 1", "vm_conf.script_args"} <= told


def test_a_string_of_fifty_megabytes_is_named_by_its_path(image: Path) -> None:
    parsed = read(image, make_archive({**DOCUMENT, "vm_hostname": "x" * (50 << 20)}))
    assert parsed.config is not None
    assert parsed.config.hostname is None
    assert len(parsed.config.nics) == 2
    assert [p.path for p in parsed.problems] == ["gandi/config", "vm_hostname"]
    assert parsed.raw is None


@pytest.mark.usefixtures("start")
def test_a_bomb_ends_in_a_problem(image: Path) -> None:
    parsed = read(image, make_archive(b"[" + b"[]," * (20 << 20) + b"1]"))
    assert parsed.config is None
    assert "too large" in parsed.problems[-1].message


def test_too_large_a_member_is_not_read(image: Path) -> None:
    parsed = read(image, make_archive(DOCUMENT, b"x" * (9 << 20)))
    assert [p.path for p in parsed.problems] == ["gandi/script"]
    assert parsed.config is not None
    assert [s.name for s in parsed.config.scripts] == ["run"]


def test_keys_twice_and_a_byte_order_mark(image: Path) -> None:
    parsed = read(image, make_archive(b'\xef\xbb\xbf{"vm_hostname": "a", "vm_hostname": "b", "vif": []}'))
    assert parsed.config is not None
    assert parsed.config.hostname == "b"
    assert [p.path for p in parsed.problems] == ["vm_hostname"]


def test_no_archive_of_ours(image: Path) -> None:
    parsed = read(image, b"")
    assert (parsed.is_recognised, parsed.config, parsed.raw) == (False, None, None)


def test_an_archive_without_a_configuration_is_not_recognised(image: Path) -> None:
    assert not read(image, make_archive(None, b"#!/bin/sh\n")).is_recognised
    cut = read(image, make_archive(DOCUMENT)[:1024], size=OFFSET + 1024)
    assert cut.is_recognised, "but one that is cut short before it is told"
    assert not cut.is_complete


def _probe(tmp_path: Path, code: str, *, forked: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in the confined process, in place of reading."""
    package = READER.parents[2]
    start = f"import sys; sys.path.insert(0, {str(package)!r}); import os, socket, ctypes, resource\n"
    if forked:
        start += "if pid := os.fork(): sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    confined = f"{start}from agent.reader.sandbox import confine\nconfine()\n{code}"
    with (tmp_path / "open").open("w") as leaked:
        return subprocess.run(
            (sys.executable, "-I", "-c", confined),
            capture_output=True,
            text=True,
            check=False,
            pass_fds=(leaked.fileno(),),
        )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("os.fork()", "BlockingIOError"),
        ("open('/etc/passwd')", "Too many open files"),
        ("open('/tmp/made', 'w')", "Too many open files"),
        ("socket.socket(socket.AF_UNIX)", "Too many open files"),
        ("socket.socket(socket.AF_INET)", "Too many open files"),
        ("os.pipe()", "Too many open files"),
        ("import tarfile", "Too many open files|No module named"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))", "ValueError: not allowed"),
        ("bytes(300 << 20)", "MemoryError"),
        ("os.fstat(3)", "Bad file descriptor"),
    ],
)
@pytest.mark.parametrize("forked", [True, False], ids=["fork", "program"])
def test_what_a_confined_process_cannot_do(tmp_path: Path, code: str, error: str, forked: bool) -> None:
    assert _probe(tmp_path, "print(os.getpid())", forked=forked).returncode == 0
    if os.geteuid() != 0 and "fork" in code:
        pytest.skip("RLIMIT_NPROC counts the other processes of this user")
    done = _probe(tmp_path, code, forked=forked)
    assert done.returncode == 1
    assert re.search(error, done.stderr), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: there is nothing to drop otherwise")
@pytest.mark.parametrize("forked", [True, False], ids=["fork", "program"])
def test_root_is_dropped_and_the_network_gone(tmp_path: Path, forked: bool) -> None:
    network = os.readlink("/proc/self/ns/net")
    code = (
        # Read from inside: the process may read its own namespace files.
        f"print(os.getresuid(), os.getresgid(), os.getgroups(), ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))\n"
        f"print(os.stat('/proc/self/ns/net').st_ino == {int(network[5:-1])})\n"
        "os.setuid(0)"
    )
    done = _probe(tmp_path, code, forked=forked)
    nobody = "(65534, 65534, 65534)"
    assert done.stdout.splitlines() == [f"{nobody} {nobody} [] 1", "False"], done.stderr
    assert "PermissionError" in done.stderr


def _instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    program = tmp_path / "reader.py"
    program.write_text(code)
    monkeypatch.setattr(client, "_READER", str(program))
    monkeypatch.setattr(child, "main", lambda _words: exec(code, {}))


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "by signal 9"),
        ("import os; os._exit(3)", "with exit status 3"),
        ("raise KeyError", "with exit status 1"),
        ("import os; os.write(1, b'{')", "not valid"),
        ("import os; os.write(1, b'[]')", "not valid"),
        ("import os; os.write(1, b'{}')", "not valid"),
        ("import os; os.write(1, b'[' * 5000)", "not valid"),
        ('import os; os.write(1, b\'{"extent": [0, Infinity], "problems": []}\')', "not valid"),
        ('import os; os.write(1, b\'{"defect": "TypeError in gandi.py:1"}\')', "TypeError in gandi.py:1"),
        ("import os\nwhile True: os.write(1, b'x' * 65536)", "answer was too large"),
    ],
)
def test_a_reader_that_ends_badly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path, code: str, said: str
) -> None:
    _instead(monkeypatch, tmp_path, code)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match=said):
        read(image, make_archive(DOCUMENT))
    assert len(os.listdir("/proc/self/fd")) == before, "no descriptor is left behind"


@pytest.mark.usefixtures("start")
@pytest.mark.parametrize("before", ["", "import os; os.close(1); "], ids=["silent", "after its answer"])
def test_a_reader_that_hangs_is_ended_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path, before: str
) -> None:
    _instead(monkeypatch, tmp_path, f"{before}import signal; signal.pause()")
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    began = time.monotonic()
    with pytest.raises(HostError, match="took more than"):
        read(image, make_archive(DOCUMENT))
    assert time.monotonic() - began < 5


def test_what_its_parent_has_not_written_is_no_part_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
    with open(os.devnull, "w", buffering=1 << 16) as held:
        monkeypatch.setattr(sys, "stdout", held)
        held.write("held back")
        assert read(image, make_archive(DOCUMENT)).config is not None


def test_a_defect_of_the_reader_quotes_nothing() -> None:
    """An unexpected error is reported by its type and place: its text may contain a part of the document."""
    with pytest.raises(KeyError) as caught:
        os.environ["S3CR3T"]
    assert "S3CR3T" in str(caught.value)
    assert re.fullmatch(r"KeyError in .*os.*:[0-9]+", child._where(caught.value))
