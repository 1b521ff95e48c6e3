"""Boots in turn, several rounds (``BENCH_ROUNDS``, 3), and one machine for the profile; then the page."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.vm.bench import breakdown, contenders, hotplug, measure, page, sizes
from tests.vm.bench.breakdown import Breakdown
from tests.vm.bench.contenders import SPEC, Contender
from tests.vm.bench.hotplug import HotPlug
from tests.vm.bench.measure import Boot, HostLoad
from tests.vm.rig import Image, Machine, build, slots
from tests.vm.rig.accel import accelerator
from tests.vm.rig.paths import PROJECT

PAGE = PROJECT / "docs" / "benchmarks.md"
FIRST, LATER = page.KINDS


class Bench:
    """One run: the images, and what was measured so far."""

    def __init__(self, rounds: int, among: Iterable[Contender] = Contender) -> None:
        self._number = rounds
        self._begun = time.monotonic()
        self._images = {who: build(contenders.image_spec(who), self._say) for who in among}
        self._rounds: dict[str, page.Rounds] = {kind: [] for kind in page.KINDS}
        self._breakdowns: dict[str, Breakdown] = {}
        self._counted: page.Rounds = []
        self._sizes: dict[Contender, sizes.Size] = {}
        self._system = ""

    def run(self, *, hotplug: bool = True) -> page.Results:
        """Measure everything, or boots alone."""
        for number in range(1, self._number + 1):
            for kind in page.KINDS:
                self._rounds[kind].append({})
            for who in Contender:
                self._measure(who, f"{number}/{self._number} {who}")
        self._profile()
        self.count()
        plugged = self.hotplug() if hotplug else None
        return page.Results(
            self._setting(), self._rounds, self._breakdowns, self._counted, self._sizes, plugged
        )

    def _measure(self, who: Contender, title: str) -> None:
        with self._machine(self._images[who], who) as machine:
            for kind in page.KINDS:
                self._rounds[kind][-1][who] = self._boot(machine, who, kind, title)
                if kind == FIRST and who in page.PAIR and who not in self._sizes:
                    self._sizes[who] = sizes.added(who, machine)
            self._system = self._system or machine.output(
                ". /etc/os-release; echo $PRETTY_NAME, Linux $(uname -r), "
                "systemd $(systemctl --version | awk '{print $2; exit}')"
            )

    def _profile(self) -> None:
        profiled = build(contenders.image_spec(Contender.AGENT, *breakdown.FILES), self._say)
        with self._machine(profiled, Contender.AGENT) as machine:
            for kind in page.KINDS:
                boot = self._boot(machine, Contender.AGENT, kind, "profile")
                self._breakdowns[kind] = Breakdown.of(machine, boot.daemon)

    def count(self) -> page.Rounds:
        """One boot of each kind is enough: what is counted depends on no host."""
        self._counted = [{} for _ in page.KINDS]
        for who in Contender:
            with self._machine(self._images[who], who, counted=True) as machine:
                for kind, boots in zip(page.KINDS, self._counted, strict=True):
                    boots[who] = self._boot(machine, who, kind, f"counted {who}")
        return self._counted

    def hotplug(self) -> HotPlug:
        """On a machine that has done its first boot."""
        with (
            self._machine(self._images[Contender.AGENT], Contender.AGENT) as machine,
            tempfile.TemporaryDirectory(prefix="gandi-bench-") as folder,
        ):
            load = HostLoad()
            machine.start()
            machine.wait_booted()
            done = hotplug.measure(machine, Path(folder), self._say)
            done.disturbance = load.others(machine)
        with Machine(self._images[Contender.AGENT], hotplug.RESOURCES, name="bench") as machine:
            machine.start()
            machine.wait_booted()
            hotplug.measure_online(machine, done, self._say)
        return done

    def _boot(self, machine: Machine, who: Contender, kind: str, title: str) -> Boot:
        if kind == LATER:
            machine.power_off()
        load = HostLoad()
        machine.start()
        machine.wait_booted()
        contenders.check(who, machine)
        boot = measure.read(machine, load)
        disturbed = f", host disturbed: {boot.disturbance:.2f} cores" * (boot.disturbance > measure.QUIET)
        times = f"ssh {boot.ssh:5.1f} s, end {boot.end:5.1f} s, CPU of its units {boot.cpu:5.2f} s"
        self._say(f"{title}, {kind}: {times}{disturbed}")
        return boot

    @contextmanager
    def _machine(self, image: Image, who: Contender, *, counted: bool = False) -> Iterator[Machine]:
        """A machine that is the only one on this host while it lives."""
        with tempfile.TemporaryDirectory(prefix="gandi-bench-") as folder:
            slot, *others = slots.take(slots.SLOTS)
            disks, spec = [contenders.medium(who, Path(folder))], replace(SPEC, counted=counted)
            try:
                with Machine(image, spec, disks=disks, name="bench", slot=slot) as machine:
                    yield machine
            finally:
                for other in (slot, *others):
                    other.release()

    def _setting(self) -> page.Setting:
        model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return page.Setting(
            date=datetime.now(UTC).date().isoformat(),
            processor=model[1] if model else "unknown processor",
            cores=os.cpu_count() or 0,
            accelerator=accelerator(self._images[Contender.AGENT].kernel),
            guest_memory=SPEC.memory,
            guest_system=self._system,
        )

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)


def main() -> int:
    """0 when everything was measured, whatever came out; the page says which targets are met.
    ``BENCH_ONLY=hotplug`` (``boots``, ``counted``) measures that part alone, and leaves the others on the
    page.
    """
    only = os.environ.get("BENCH_ONLY")
    if only == "hotplug":
        text = page.renewed(PAGE.read_text(), Bench(0, (Contender.AGENT,)).hotplug())
    elif only == "counted":
        text = page.recounted(PAGE.read_text(), Bench(0).count())
    else:
        results = Bench(int(os.environ.get("BENCH_ROUNDS", str(page.ROUNDS)))).run(hotplug=only != "boots")
        text = page.text(results, PAGE.read_text())
    PAGE.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
