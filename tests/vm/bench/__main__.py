"""Counted boots of each contender, as many at a time as the host has slots; then hot-plug; then the page."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from tests.vm.bench import chart, contenders, hotplug, measure, page, sizes
from tests.vm.bench.contenders import SPEC, Contender
from tests.vm.bench.hotplug import HotPlug
from tests.vm.bench.measure import Boot
from tests.vm.bench.page import Case, Counted
from tests.vm.rig import Architecture, Disk, Image, Machine, RigError, build, slots
from tests.vm.rig.command import run
from tests.vm.rig.hardware import HARDWARE
from tests.vm.rig.paths import CACHE, PROJECT

PAGE, CHART = (PROJECT / "docs" / name for name in ("benchmarks.md", "benchmarks.svg"))
#: What was counted last, a file each: what one kind of boot is compared with.
_LAST = CACHE.with_name("bench")
#: The boots of each machine, of which the first is a first boot. The plain image and the agent have three
#: machines each: between them lies the agent's delay, a small difference of two moments. So has who makes
#: RSA keys, which takes as long as chance will have it.
_MACHINES = (
    *[(Contender.AGENT, (Case.FIRST, Case.LATER, Case.AGAIN, Case.DISKS))] * 3,
    (Contender.CLOUD_INIT, (Case.FIRST, Case.LATER, Case.AGAIN, Case.DISKS)),
    *[(Contender.AGENT, (Case.KEYS,))] * 3,
    *[(Contender.CLOUD_INIT, (Case.KEYS,))] * 3,
    *[(Contender.PLAIN, (Case.FIRST, Case.LATER, Case.DISKS))] * 3,
    (Contender.EMPTY, (Case.FIRST, Case.LATER)),
)
#: The plain image has no archive that could come again, and makes no host keys.
_PLAIN = {Case.KEYS: Case.FIRST, Case.AGAIN: Case.LATER}
#: What the console says when all that a boot starts is up; and seconds of the host until then, which others
#: use too.
_END, _READY = b"Reached target multi-user.target", 900


class Bench:
    """One run: what was measured so far."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._sizes: dict[Contender, sizes.Size] = {}
        self._system = ""

    def all(self) -> page.Results:
        """Boot everything that is compared; of several boots of one kind, the median of each figure."""
        for who, cases in _MACHINES:
            build(contenders.image_spec(who, keys=Case.KEYS in cases), self._say)
        each: dict[tuple[Case, Contender], list[Boot]] = {}
        with ThreadPoolExecutor(slots.SLOTS) as pool:
            done = [
                (who, pool.submit(self.count, who, cases, number))
                for number, (who, cases) in enumerate(_MACHINES)
            ]
        for who, boots in done:
            for case, boot in boots.result().items():
                each.setdefault((case, who), []).append(boot)
        counted: Counted = {case: {} for case in Case}
        for (case, who), of_kind in each.items():
            counted[case][who] = measure.middle(of_kind)
        for case, same in _PLAIN.items():
            counted[case][Contender.PLAIN] = counted[same][Contender.PLAIN]
        qemu = run([HARDWARE[Architecture.AMD64].program, "--version"]).split("version ")[1].split()[0]
        guest = f"{self._system}, 1 vCPU, {SPEC.memory} MiB"
        return page.Results(f"Guest: {guest}. QEMU {qemu}.", counted, self._sizes)

    def some(self, cases: Sequence[Case]) -> str:
        """Both tables of some boots of one machine, with the agent's counted now. The others' are counted
        once and kept until their images change: for work on the agent, not for the page.
        """
        counted: Counted = {case: {} for case in cases}
        for who in (Contender.PLAIN, *reversed(page.PAIR)):
            image = build(contenders.image_spec(who, keys=Case.KEYS in cases), self._say)
            of = {case: _PLAIN.get(case, case) if who is Contender.PLAIN else case for case in cases}
            if who is Contender.AGENT or not all(_kept(image, who, case).exists() for case in of.values()):
                self.count(who, tuple(dict.fromkeys(of.values())))
            for case in cases:
                counted[case][who] = Boot(**json.loads(_kept(image, who, of[case]).read_text()))
        return f"{page.compared(counted)}\n\n{page.parts_used(counted)}"

    def count(self, who: Contender, cases: Sequence[Case], number: int = 0) -> dict[Case, Boot]:
        """The boots of one machine, each after a whole one that has come to rest; machines that run side by
        side differ in their numbers.
        """
        keys = Case.KEYS in cases
        image = build(contenders.image_spec(who, keys=keys), self._say)
        spec, name = replace(SPEC, counted=True), f"bench-{who.name.lower()}-{number}"
        counted = {}
        with (
            tempfile.TemporaryDirectory(prefix="gandi-bench-") as place,
            Machine(image, spec, name=name) as machine,
        ):
            disks = [contenders.medium(who, Path(place), keys=keys)]
            for case in cases:
                if case is Case.DISKS:
                    disks += contenders.data_disks(Path(place))
                    if who is Contender.AGENT:
                        self._boot(machine, who, disks)
                if case in (Case.AGAIN, Case.DISKS):
                    disks[0] = contenders.medium(who, Path(place))
                counted[case] = boot = self._boot(machine, who, disks)
                _kept(image, who, case).write_text(json.dumps(asdict(boot)))
                self._say(f"{who}, {case}: ssh {boot.ssh:.3f} s, CPU of its units {boot.cpu / 1e6:.0f} M")
            if who in page.PAIR and not keys:
                self._sizes[who] = sizes.added(who, machine)
            self._system = self._system or machine.output(
                ". /etc/os-release; echo $PRETTY_NAME, Linux $(uname -r), "
                "systemd $(systemctl --version | awk '{print $2; exit}')"
            )
        return counted

    def _boot(self, machine: Machine, who: Contender, disks: list[Disk]) -> Boot:
        before = _reached(machine)
        machine.cold_boot(disks=disks, wait=False)
        end = time.monotonic() + _READY
        while _reached(machine) == before:
            if time.monotonic() > end:
                raise RigError(f"{who}: the boot did not end in {_READY} s")
            time.sleep(0.5)
        machine.wait_ready()
        boot = measure.read(machine)
        contenders.check(who, machine)
        return boot

    def hotplug(self) -> HotPlug:
        """On a machine that has done its first boot; CPUs and memory come to another."""
        image = build(contenders.image_spec(Contender.AGENT), self._say)
        with tempfile.TemporaryDirectory(prefix="gandi-bench-") as place:
            disks = [contenders.medium(Contender.AGENT, Path(place))]
            with Machine(image, replace(SPEC, counted=True), disks=disks, name="bench") as machine:
                machine.start()
                machine.wait_booted(_READY)
                done = hotplug.measure(machine, Path(place), self._say)
        with Machine(image, hotplug.RESOURCES, name="bench") as machine:
            machine.start()
            machine.wait_booted(_READY)
            hotplug.measure_online(machine, done, self._say)
        return done

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)


def _reached(machine: Machine) -> int:
    """How often the machine has come to the end of its boot, as its console says: each question to the guest
    before would cost it instructions, at a moment that the host chooses.
    """
    log = machine.logs / "serial.log"
    return log.read_bytes().count(_END) if log.exists() else 0


def _kept(image: Image, who: Contender, case: Case) -> Path:
    """Where the last count of a boot is kept."""
    _LAST.mkdir(parents=True, exist_ok=True)
    return _LAST / f"{who.name}-{case.name}-{image.folder.name}.json".lower()


def main(only: Sequence[str]) -> int:
    """0 when everything was measured, whatever came out; the page says which targets are met.

    ``counted`` or ``hotplug`` measures that part alone, and leaves the other on the page. The names of kinds
    of boot, in small letters, count these and print them; the page stays.
    """
    bench, text = Bench(), PAGE.read_text()
    cases = {Case[name.upper()] for name in only if name not in ("counted", "hotplug")}
    if Case.KEYS in cases:
        print(bench.some([Case.KEYS]), flush=True)
    if others := cases - {Case.KEYS}:
        print(bench.some([case for case in Case if case in {Case.FIRST, *others}]), flush=True)
    if cases:
        return 0
    if only != ["hotplug"]:
        results = bench.all()
        CHART.write_text(chart.svg(results.counted))
        text = page.recounted(text, results)
        PAGE.write_text(text)  # what is measured next may fail, and this has taken half an hour
    if only != ["counted"]:
        text = page.renewed(text, bench.hotplug())
    PAGE.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
