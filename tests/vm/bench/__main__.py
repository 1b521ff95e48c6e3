"""Counted boots of each contender, as many at a time as the host has slots; then hot-plug; then the page."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.vm.bench import chart, contenders, hotplug, measure, page, sizes
from tests.vm.bench.contenders import SPEC, Contender
from tests.vm.bench.hotplug import HostLoad, HotPlug
from tests.vm.bench.measure import Boot
from tests.vm.bench.page import Case
from tests.vm.rig import Disk, Image, Machine, build, slots
from tests.vm.rig.accel import QEMU, accelerator
from tests.vm.rig.command import run
from tests.vm.rig.paths import PROJECT

PAGE, CHART = (PROJECT / "docs" / name for name in ("benchmarks.md", "benchmarks.svg"))
#: What each is booted for: the plain image has no archive that could come again, and makes no host keys.
_CASES = {
    Contender.AGENT: (Case.FIRST, Case.LATER, Case.AGAIN, Case.DISKS),
    Contender.CLOUD_INIT: (Case.FIRST, Case.LATER, Case.AGAIN, Case.DISKS),
    Contender.PLAIN: (Case.FIRST, Case.LATER, Case.DISKS),
    Contender.EMPTY: (Case.FIRST, Case.LATER),
}
#: Seconds of the host until a counted guest answers, while others use the host too.
_READY = 600


class Bench:
    """One run: what was measured so far."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._counted: page.Counted = {case: {} for case in Case}
        self._sizes: dict[Contender, sizes.Size] = {}
        self._system = ""

    def count(self) -> page.Results:
        """Boot everything that is compared: once, since what is counted depends on no host."""
        jobs = [(who, False) for who in _CASES] + [(who, True) for who in page.PAIR]
        images = [build(contenders.image_spec(who, keys=keys), self._say) for who, keys in jobs]
        with ThreadPoolExecutor(slots.SLOTS) as pool:
            done = [
                pool.submit(self._count, image, who, keys=keys)
                for (who, keys), image in zip(jobs, images, strict=True)
            ]
        for job in done:
            job.result()
        for case, same in ((Case.KEYS, Case.FIRST), (Case.AGAIN, Case.LATER)):
            self._counted[case][Contender.PLAIN] = self._counted[same][Contender.PLAIN]
        qemu = run([QEMU, "--version"]).split("version ")[1].split()[0]
        guest = f"{self._system}, 1 vCPU, {SPEC.memory} MiB"
        return page.Results(f"Guest: {guest}. QEMU {qemu}.", self._counted, self._sizes)

    def _count(self, image: Image, who: Contender, *, keys: bool) -> None:
        spec, name = replace(SPEC, counted=True), f"bench-{who.name.lower()}{'-keys' * keys}"
        with (
            tempfile.TemporaryDirectory(prefix="gandi-bench-") as place,
            Machine(image, spec, name=name) as machine,
        ):
            disks = [contenders.medium(who, Path(place), keys=keys)]
            for case in (Case.KEYS,) if keys else _CASES[who]:
                if case is Case.DISKS:
                    disks += contenders.data_disks(Path(place))
                    if who is Contender.AGENT:
                        self._boot(machine, who, disks)
                if case in (Case.AGAIN, Case.DISKS):
                    disks[0] = contenders.medium(who, Path(place))
                boot = self._boot(machine, who, disks)
                self._counted[case][who] = boot
                self._say(f"{who}, {case}: ssh {boot.ssh:.2f} s, CPU of its units {boot.cpu / 1e6:.0f} M")
            if who in page.PAIR and not keys:
                self._sizes[who] = sizes.added(who, machine)
            self._system = self._system or machine.output(
                ". /etc/os-release; echo $PRETTY_NAME, Linux $(uname -r), "
                "systemd $(systemctl --version | awk '{print $2; exit}')"
            )

    def _boot(self, machine: Machine, who: Contender, disks: list[Disk]) -> Boot:
        machine.cold_boot(disks=disks, wait=False)
        machine.wait_ready(_READY)
        boot = measure.read(machine)
        contenders.check(who, machine)
        return boot

    def hotplug(self) -> HotPlug:
        """On a machine that has done its first boot, and is the only one on this host."""
        image = build(contenders.image_spec(Contender.AGENT), self._say)
        slot, *others = slots.take(slots.SLOTS)
        with tempfile.TemporaryDirectory(prefix="gandi-bench-") as place:
            disks = [contenders.medium(Contender.AGENT, Path(place))]
            with Machine(image, SPEC, disks=disks, name="bench", slot=slot) as machine:
                load = HostLoad()
                machine.start()
                machine.wait_booted()
                done = hotplug.measure(machine, Path(place), self._say)
                done.disturbance = load.others(machine)
        for other in others:
            other.release()
        with Machine(image, hotplug.RESOURCES, name="bench") as machine:
            machine.start()
            machine.wait_booted()
            hotplug.measure_online(machine, done, self._say)
        model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = model[1] if model else "unknown processor"
        done.host = f"{processor}, {os.cpu_count()} cores, accelerator {accelerator(image.kernel)}"
        return done

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {text}", flush=True)


def main() -> int:
    """0 when everything was measured, whatever came out; the page says which targets are met.
    ``BENCH_ONLY=counted`` or ``hotplug`` measures that part alone, and leaves the other on the page.
    """
    only, bench, text = os.environ.get("BENCH_ONLY"), Bench(), PAGE.read_text()
    if only != "hotplug":
        results = bench.count()
        CHART.write_text(chart.svg(results.counted))
        text = page.recounted(text, results)
    if only != "counted":
        text = page.renewed(text, bench.hotplug())
    PAGE.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
