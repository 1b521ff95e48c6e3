"""CPUs: only new ones are brought online, by any number of scans and daemons."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.context import Context, context
from agent.host.host import Host
from agent.host.sysfs import format_list, parse_list
from agent.hotplug import cpu
from agent.lib.errors import HostError

SYS = "sys/devices/system/cpu"


class Kernel(Host):
    """A tree with CPUs that come online when that is written, unless ``refuses`` has the kernel's error."""

    __slots__ = ("refuses", "writes")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes: list[str] = []
        self.refuses = ""

    def sysfs_write(self, name: str, value: str) -> None:
        self.writes.append(name.split("/")[-2])
        if self.refuses:
            raise HostError(f"{name}: the kernel refused {value!r}: {self.refuses}")
        online(Path(self.root), name.split("/")[-2], state=value)


def online(root: Path, name: str, *, state: str = "1") -> None:
    """Bring a CPU online or take it offline."""
    folder, number = root / SYS, int(name.removeprefix("cpu"))
    (folder / name / "online").write_text(f"{state}\n")
    now = parse_list((folder / "online").read_text().strip())
    now = now | {number} if state == "1" else now - {number}
    (folder / "online").write_text(format_list(now) + "\n")


def add(root: Path, number: int, *, folder_only: bool = False) -> Path:
    """Plug a CPU in: offline, as the kernel does."""
    folder = root / SYS / f"cpu{number}"
    folder.mkdir(parents=True)
    if not folder_only:
        (folder / "online").write_text("0\n")
    return folder


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """Make a machine with two CPUs; the kernel's command line has left the second offline."""
    add(tmp_path, 0, folder_only=True)
    (tmp_path / SYS / "online").write_text("0\n")
    add(tmp_path, 1)
    (tmp_path / SYS / "cpufreq").mkdir()
    return context(Kernel(tmp_path))


def look(ctx: Context) -> dict[str, str]:
    """Scan once, as a daemon that has just started."""
    again = context(ctx.host)
    return {item.name: str(item.outcome) for item in cpu.handle(again)}


def writes(ctx: Context) -> list[str]:
    assert isinstance(ctx.host, Kernel)
    return ctx.host.writes


def test_what_was_there_at_the_first_look_is_left(ctx: Context) -> None:
    assert look(ctx) == look(ctx) == {"CPUs online": "unchanged"}
    assert writes(ctx) == []


def test_a_new_one_comes_online_once(ctx: Context, tmp_path: Path) -> None:
    look(ctx)
    add(tmp_path, 2)
    assert look(ctx) == {"cpu2": "changed", "CPUs online": "unchanged"}
    assert look(ctx) == {"CPUs online": "unchanged"}
    assert writes(ctx) == ["cpu2"]


def test_one_that_the_administrator_took_offline_stays_so(ctx: Context, tmp_path: Path) -> None:
    """No event and no restart changes what the administrator decided."""
    look(ctx)
    add(tmp_path, 2)
    add(tmp_path, 3)
    look(ctx)
    online(tmp_path, "cpu2", state="0")
    for _ in range(3):
        assert look(ctx) == {"CPUs online": "unchanged"}
    answers = {name: (state, act) for name, state, act, _why in cpu.survey(ctx)}
    assert answers["cpu2"] == ("offline", "leave")
    assert answers["cpu3"] == ("online", "leave")
    assert writes(ctx) == ["cpu2", "cpu3"]


def test_one_that_somebody_else_brought_online_is_known(ctx: Context, tmp_path: Path) -> None:
    """Another program has brought the CPU online before."""
    look(ctx)
    add(tmp_path, 2)
    online(tmp_path, "cpu2")
    look(ctx)
    online(tmp_path, "cpu2", state="0")
    look(ctx)
    assert writes(ctx) == []


def test_taken_out_and_plugged_in_again_it_is_new(ctx: Context, tmp_path: Path) -> None:
    look(ctx)
    folder = add(tmp_path, 2)
    look(ctx)
    online(tmp_path, "cpu2", state="0")
    # The old folder is kept, so that its inode is not used again.
    folder.rename(tmp_path / "unplugged")
    add(tmp_path, 2)
    look(ctx)
    assert writes(ctx) == ["cpu2", "cpu2"]


def test_the_setting(ctx: Context, tmp_path: Path) -> None:
    look(ctx)
    ctx.host.write("/etc/default/gandi", "CONFIG_CPU_ONLINE=0\n")
    add(tmp_path, 2)
    assert look(ctx)["cpu2"] == "skipped"
    ctx.host.write("/etc/default/gandi", "CONFIG_CPU_ONLINE=1\n\n")
    assert look(ctx)["cpu2"] == "changed"


def test_a_refusal_is_reported_and_tried_at_the_next_look(ctx: Context, tmp_path: Path) -> None:
    look(ctx)
    add(tmp_path, 2)
    assert isinstance(ctx.host, Kernel)
    ctx.host.refuses = "Operation not permitted"
    assert look(ctx)["cpu2"] == "failed"
    ctx.host.refuses = ""
    assert look(ctx)["cpu2"] == "changed"


def test_the_file_that_comes_late_is_waited_for_and_not_for_ever(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older kernels send the event before they make the ``online`` file."""
    look(ctx)
    late = add(tmp_path, 2, folder_only=True)
    monkeypatch.setattr(cpu, "_TIMEOUT", 0.1)
    assert look(ctx)["cpu2"] == "failed"
    ticks: list[float] = []

    def tick(seconds: float) -> None:
        ticks.append(seconds)
        if len(ticks) == 2:
            (late / "online").write_text("0\n")

    monkeypatch.setattr(cpu, "_TIMEOUT", 60.0)
    monkeypatch.setattr("agent.hotplug.cpu.time.sleep", tick)
    assert look(ctx)["cpu2"] == "changed"
    assert len(ticks) == 2


@pytest.mark.parametrize(
    ("text", "numbers"), [("", set()), ("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("1,3-4", {1, 3, 4})]
)
def test_lists_as_the_kernel_spells_them(text: str, numbers: set[int]) -> None:
    assert parse_list(text) == numbers
    assert format_list(numbers) == text
    assert format_list(numbers, "cpu").replace("cpu", "") == text


def test_cpus_are_named(ctx: Context, tmp_path: Path) -> None:
    add(tmp_path, 2)
    add(tmp_path, 3)
    for numbers, said in (("0", "cpu0 (1)"), ("0,2-3", "cpu0,cpu2-cpu3 (3)")):
        (tmp_path / SYS / "online").write_text(f"{numbers}\n")
        assert [str(item) for item in cpu.handle(ctx)] == [f"unchanged: CPUs online: {said}"]
