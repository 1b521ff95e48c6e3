"""``apply --no-programs``: only the image's files are edited; what needs a program is left, and said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.cli import apply_image
from agent.context import attempt, context
from agent.host.host import Host
from agent.lib.errors import ConfigError, NeedsProgram
from agent.report import Item, guarded, unchanged
from agent.state.json_file import FOLDER


@pytest.fixture
def image(tmp_path: Path) -> Host:
    """An image of which no program is run."""
    return Host(tmp_path, offline=True, runs_programs=False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_no_program_is_run(image: Host, *, dry_run: bool) -> None:
    image.dry_run = dry_run
    with pytest.raises(NeedsProgram, match="left to the first boot: it needs useradd of the image"):
        image.run(("useradd", "admin1"), check=False, changes=False)
    assert not image.planned


def test_an_item_that_needs_one_is_skipped_and_the_next_is_done(image: Host) -> None:
    def needs_one() -> Iterator[Item]:
        image.run(("locale", "-a"))
        yield unchanged("one")

    def work() -> Iterator[Item]:
        yield from guarded("one", needs_one())
        yield unchanged("two")

    report = attempt(context(image), "step", work)
    assert [str(item.outcome) for item in report.items] == ["skipped", "unchanged"]
    assert "locale" in report.items[0].detail
    assert not report.failed
    assert str(attempt(context(image), "step", needs_one).outcome) == "skipped"


def test_what_is_left_is_not_recorded_as_done(image: Host) -> None:
    state = context(image).state.system()
    for parts in (None, ""):
        with pytest.raises(NeedsProgram):
            state.reconcile(
                "item", wanted="there", live=None, apply=lambda: image.run(("useradd", "x")), parts=parts
            )
        assert not state.recorded_items("")
    assert state.path.startswith(FOLDER)


@pytest.mark.parametrize("option", [["--repair"], ["--bootloader", "grub"]])
def test_what_would_run_programs_is_refused_with_it(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["apply", "--root", str(tmp_path), "--source", "-", "--no-programs", *option])
    assert "leave --no-programs out" in capsys.readouterr().err


def test_swap_in_a_file_is_refused_with_it() -> None:
    with pytest.raises(ConfigError, match="mkswap"):
        apply_image.options(None, None, "1G", programs=False)
    assert apply_image.options(None, None, "1G:partition", programs=False).swap == 1 << 30
    assert not apply_image.options(None, None, "none", programs=False).swap
