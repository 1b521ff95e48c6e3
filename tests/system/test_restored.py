"""Which clock gandi-restored compares with, when it sets the system's, and which jumps of it count.
In a mount namespace, with files in place of the kernel's, and programs in place of those that would set this
host's clock.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "bin/gandi-restored"
NOW = 1_800_000_000
ADJTIME = "0.0 0 0.0\n0\n{}\n"
#: In place of date(1), systemctl(1) and python3(1): what each prints or returns is in a file, and its
#: arguments are added to another.
STANDS = {
    "date": '#!/bin/sh\ncase $1 in +%s%3N) cat "$0.says" ;; *) echo "$*" >>"$0.asked" ;; esac\n',
    "systemctl": '#!/bin/sh\necho "$*" >>"$0.asked"\ngrep -qxF -- "$4" "$0.says"\n',
    "python3": '#!/bin/sh\nshift 3\necho "$*" >>"$0.asked"\ncat "$0.says"\n',
}


class Namespace:
    """A machine with its files below ``root``; its clock shows NOW and 0.9 s."""

    def __init__(self, folder: Path) -> None:
        self.root, self.stands = folder / "root", folder / "stands"
        self.stands.mkdir()
        for name in ("run/gandi", "run/systemd/units", "etc", "sys/class", "usr/lib/systemd/ntp-units.d"):
            (self.root / name).mkdir(parents=True)
        self.stand("date", f"{NOW}900\n")
        self.stand("systemctl", "")
        self.rtc(NOW)
        self.clock(NOW - 3600, uptime=3600)

    def stand(self, program: str, says: str) -> None:
        """Have a program of the namespace's say that in place of its own."""
        path = self.stands / program
        path.write_text(STANDS[program].replace("$0", str(path)))
        path.chmod(0o755)
        Path(f"{path}.says").write_text(says)
        Path(f"{path}.asked").touch()

    def asked(self, program: str) -> list[str]:
        return Path(f"{self.stands / program}.asked").read_text().splitlines()

    def put(self, name: str, text: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def clock(self, booted: int, *, uptime: int) -> None:
        """Have the kernel say when the machine was booted, by the clock, and how long ago."""
        self.put("/proc/stat", f"cpu 1 2\nintr 9\nbtime {booted}\nprocesses 7\n")
        self.put("/proc/uptime", f"{uptime}.42 1.00\n")

    def rtc(self, time: int) -> None:
        self.put("/sys/class/rtc/rtc0/since_epoch", f"{time}\n")

    def runs(self, unit: str, *, active: bool = True) -> None:
        """Have a unit that was started in this boot."""
        (self.root / "run/systemd/units" / f"invocation:{unit}").symlink_to("1" * 32)
        self.stand("systemctl", f"{unit}\n" if active else "")

    def run(self, verb: str) -> int:
        """Run the program; return its exit status."""
        folders = ("/run", "/etc", "/sys/class", "/usr/lib/systemd/ntp-units.d")
        binds = [f"mount --bind {self.root}{folder} {folder}" for folder in folders if os.path.isdir(folder)]
        binds += [f"mount --bind {self.root}{name} {name}" for name in ("/proc/stat", "/proc/uptime")]
        for stand in self.stands.glob("*[!d]"):
            if stand.suffix == "" and (program := shutil.which(stand.name, path="/usr/bin:/bin")):
                binds.append(f"mount --bind {stand} {os.path.realpath(program)}")
        script = f"{' && '.join(binds)} || exit 99; exec sh {PROGRAM} {verb}"
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=False, capture_output=True)
        self.errors = done.stderr.decode()
        assert done.returncode != 99, self.errors
        return done.returncode

    def said(self, verb: str = "clock") -> str:
        """Run the program; return its note for the daemon."""
        assert self.run(verb) == 0, self.errors
        return (self.root / "run/gandi/clock").read_text().strip()


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    return Namespace(tmp_path)


@pytest.mark.parametrize(
    ("rtc", "outcome", "by"),
    [
        (NOW, "unchanged: 0.1 s behind the RTC", []),
        (NOW - 1, "unchanged: 0.9 s ahead of the RTC", []),
        (NOW + 1, "unchanged: 1.1 s behind the RTC", []),
        (NOW + 2, "changed: was 2.1 s behind the RTC: set by date", ["+2.100"]),
        (NOW - 2, "changed: was 1.9 s ahead of the RTC: set by date", ["-1.900"]),
        (NOW + 600, "changed: was 600.1 s behind the RTC: set by date", ["+600.100"]),
    ],
)
def test_it_is_set_only_if_it_is_off(namespace: Namespace, rtc: int, outcome: str, by: list[str]) -> None:
    namespace.rtc(rtc)
    assert namespace.said() == outcome
    assert namespace.asked("date") == [f"--utc --set={seconds} seconds" for seconds in by]


def test_what_an_earlier_start_has_noted_stays_until_it_is_taken(namespace: Namespace) -> None:
    namespace.rtc(NOW + 600)
    noted = namespace.said()
    namespace.rtc(NOW)
    assert namespace.said() == noted
    namespace.rtc(NOW + 700)
    assert namespace.said() == "changed: was 700.1 s behind the RTC: set by date"


def test_what_date_refuses_is_noted(namespace: Namespace) -> None:
    namespace.rtc(NOW + 600)
    date = namespace.stands / "date"
    date.write_text(date.read_text().replace("*)", "*) echo date: no >&2; exit 1;"))
    assert namespace.said() == "failed: 600.1 s behind the RTC: date: no"


@pytest.mark.parametrize(
    ("adjtime", "used"),
    [
        (ADJTIME.format("LOCAL"), False),
        (ADJTIME.format("LOCAL")[:-1], False),
        (ADJTIME.format("UTC"), True),
        ("0.0\n", True),
    ],
)
def test_an_rtc_in_local_time_is_not_used(namespace: Namespace, adjtime: str, used: bool) -> None:
    namespace.put("/etc/adjtime", adjtime)
    namespace.rtc(NOW + 7200)
    assert ("the RTC is in local time" not in namespace.said()) is used
    assert bool(namespace.asked("date")) is used


def test_an_rtc_that_was_never_set_is_not_used(namespace: Namespace) -> None:
    namespace.rtc(86400)
    assert namespace.said() == "skipped: no clock to compare with: the RTC was never set"


def test_without_a_clock_it_says_so(namespace: Namespace) -> None:
    shutil.rmtree(namespace.root / "sys/class/rtc")
    assert "neither a PTP clock" in namespace.said()


def test_the_hypervisors_ptp_clock_comes_first(namespace: Namespace) -> None:
    namespace.put("/sys/class/ptp/ptp0/clock_name", "igb\n")
    namespace.put("/sys/class/ptp/ptp1/clock_name", "KVM virtual PTP\n")
    namespace.put("/etc/adjtime", ADJTIME.format("LOCAL"))
    namespace.stand("python3", "1050\n")
    assert namespace.said() == "changed: was 1.1 s behind /dev/ptp1: set by date"
    assert namespace.asked("python3") == ["/dev/ptp1"]
    assert namespace.asked("date") == ["--utc --set=+1.050 seconds"]


def test_a_ptp_clock_that_cannot_be_opened_leaves_the_rtc(namespace: Namespace) -> None:
    namespace.put("/sys/class/ptp/ptp77/clock_name", "KVM virtual PTP\n")
    assert namespace.said() == "unchanged: 0.1 s behind the RTC"
    assert namespace.errors == "/dev/ptp77: No such file or directory: not used\n"


@pytest.mark.parametrize("unit", ["chrony.service", "mine.service"])
def test_it_is_left_to_a_time_daemon(namespace: Namespace, unit: str) -> None:
    namespace.rtc(NOW + 600)
    namespace.put("/usr/lib/systemd/ntp-units.d/50-mine.list", "# other.service\nmine.service")
    namespace.runs(unit)
    assert namespace.said() == f"skipped: 600.1 s behind the RTC: left to {unit}, which is active"
    assert namespace.asked("systemctl") == [f"--quiet is-active -- {unit}"]
    assert namespace.asked("date") == []


def test_a_time_daemon_that_was_stopped_leaves_it(namespace: Namespace) -> None:
    namespace.rtc(NOW + 600)
    namespace.runs("ntp.service", active=False)
    assert namespace.said().startswith("changed")


def test_without_a_time_daemon_no_process_asks_for_one(namespace: Namespace) -> None:
    namespace.rtc(NOW + 600)
    assert namespace.said().startswith("changed")
    assert namespace.asked("systemctl") == []


#: What PID 1 has recorded of the boot: its time by the clock, and how long after the kernel's start.
RECORDED = f"@{NOW - 3597}\n3000000\n"
SYSTEMCTL = '#!/bin/sh\necho "$*" >>"$0.asked"\ncat "$0.says"\n'


@pytest.fixture
def pid1(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    monkeypatch.setitem(STANDS, "systemctl", SYSTEMCTL)
    namespace.stand("systemctl", RECORDED)
    return namespace


@pytest.mark.parametrize("by", [60, 600, -3600])
def test_a_jump_of_a_minute_counts_once(pid1: Namespace, by: int) -> None:
    pid1.clock(NOW - 3600 + by, uptime=3600)
    assert pid1.said("jumped") == f"unchanged: another program has set it by {by} s"
    assert len(pid1.asked("systemctl")) == 1
    assert pid1.run("jumped") == 1
    assert len(pid1.asked("systemctl")) == 1, "PID 1 is asked once in a boot"


@pytest.mark.parametrize(("by", "uptime"), [(0, 3600), (59, 3600), (-59, 3600), (7200, 299)])
def test_what_is_no_jump(pid1: Namespace, by: int, uptime: int) -> None:
    """Little, or soon after the boot: then an RTC that is wrong is set right."""
    pid1.clock(NOW - 3600 + by, uptime=uptime)
    assert pid1.run("jumped") == 1
    assert not (pid1.root / "run/gandi/clock").exists()
    pid1.clock(NOW - 3600 + by, uptime=4000)
    assert pid1.run("jumped") == 1, "nothing has moved since"


def test_what_it_has_set_itself_is_no_jump(namespace: Namespace) -> None:
    namespace.rtc(NOW + 600)
    namespace.clock(NOW - 3000, uptime=3600)
    assert namespace.said().startswith("changed")
    assert namespace.run("jumped") == 1
