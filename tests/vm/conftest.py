"""Fixtures of the virtual machine tests; for a failed test, its logs and their place in the report."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator

import pytest

from tests.vm import sample
from tests.vm.campaign import collected, pytest_runtest_teardown, rounds
from tests.vm.rig import (
    Disk,
    Image,
    ImageSpec,
    Machine,
    MachineSpec,
    State,
    booted,
    build,
    newest_deb,
    saved,
)
from tests.vm.rig.slots import Slot, take

#: Fixtures and a hook of the campaigns.
__all__ = ["collected", "pytest_runtest_teardown", "rounds"]
SERIAL_TAIL = 30  # lines shown in the report


class Rig:
    """Starts the machines of one test and closes them at its end."""

    def __init__(self, test: str) -> None:
        self._test = re.sub(r"[^\w.-]+", "_", test)
        self._number = itertools.count()
        self.machines: list[Machine] = []
        self._slots: list[Slot] = []
        self.failed = False

    def start(
        self,
        image: Image | ImageSpec,
        spec: MachineSpec | None = None,
        *,
        disks: Iterable[Disk] = (),
        slot: Slot | None = None,
        wait: bool = True,
    ) -> Machine:
        """Boot a machine; returns when its channel answers, early in the boot (`wait_booted` waits for
        the end).
        """
        built = build(image) if isinstance(image, ImageSpec) else image
        machine = Machine(built, spec, disks=disks, name=self._name(), slot=slot)
        self.machines.append(machine)
        return machine.start(wait=wait)

    def clone(self, state: State, *, slot: Slot | None = None) -> Machine:
        """Return a machine resumed from a saved state."""
        machine = state.clone(self._name(), slot=slot)
        self.machines.append(machine)
        return machine

    def boot_again(self, state: State, spec: MachineSpec) -> Machine:
        """Boot a machine with the disks of a saved state, after a power cut at that moment."""
        machine = state.off(self._name(), spec)
        self.machines.append(machine)
        return machine.start()

    def slots(self, count: int) -> list[Slot]:
        """Slots for a test that needs several machines at once; hand one to each `start`."""
        self._slots += (taken := take(count))
        return taken

    def _name(self) -> str:
        number = next(self._number)
        return self._test if number == 0 else f"{self._test}-{number}"

    def close(self) -> None:
        """End every machine; keep the logs when the test failed."""
        for machine in self.machines:
            machine.close(keep_logs=self.failed)
        for slot in self._slots:
            slot.release()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long tests first, so that all workers end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


RIG = pytest.StashKey[Rig]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Save the guest's journal of a failed test while its machine runs; name the folder in the report."""
    report = yield
    rig = item.stash.get(RIG, None)
    if rig is not None and report.failed:
        rig.failed = True
        for machine in rig.machines:
            machine.collect_logs()
            serial = machine.logs / "serial.log"
            tail = serial.read_text(errors="replace").splitlines()[-SERIAL_TAIL:] if serial.exists() else []
            report.sections.append((f"machine logs in {machine.logs}", "\n".join(tail)))
    return report


@pytest.fixture
def plain_image() -> Image:
    """Debian without the package."""
    return build(ImageSpec())


@pytest.fixture
def image() -> Image:
    """Debian with the newest package of dist/; without one it is an error, never a skip."""
    return build(ImageSpec(debs=(newest_deb(),)))


@pytest.fixture
def platform_image() -> Image:
    """Debian with the package, what a NoCloud drive needs, and host keys that are kept."""
    return build(ImageSpec(debs=(newest_deb(),), extra=("python3-yaml",), commands=(sample.KEEPS_KEYS,)))


@pytest.fixture(scope="session")
def platform() -> State:
    """The sample's machine after a boot without a medium, with the packages for NoCloud drives, volumes, an
    automounter and images.
    """
    tools = ("autofs", "bubblewrap", "cryptsetup-bin", "fuse3", "lvm2", "python3-yaml")
    image = build(ImageSpec(debs=(newest_deb(),), extra=tools, commands=(sample.KEEPS_KEYS,)))
    return booted(image, sample.SPEC)


@pytest.fixture(scope="session")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> State:
    """The sample's machine after its first boot with its archive."""
    disk = sample.swap_disk(tmp_path_factory.mktemp("swap"))
    image = build(ImageSpec(debs=(newest_deb(),), files=sample.FILES))
    return saved(image, "set up 3", _first_boot, sample.SPEC, [disk])


def _first_boot(vm: Machine) -> None:
    assert vm.wait_booted() == "running", vm.output("systemctl --failed --no-legend; systemctl list-jobs")
    vm.wait_until("grep -q ^run /root/order")
    vm.run("sync")


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Boot machines for this test: `machine.start(image, spec, disks=[...])`."""
    rig = Rig(request.node.nodeid.split("/")[-1])
    request.node.stash[RIG] = rig
    yield rig
    rig.close()


@pytest.fixture
def booted_plain(machine: Rig, plain_image: Image) -> Machine:
    """A booted machine without the package, resumed from a saved state."""
    return machine.clone(booted(plain_image))


@pytest.fixture(name="booted")
def booted_machine(machine: Rig, image: Image) -> Machine:
    """A booted machine with the package, resumed from a saved state: the start of most tests."""
    return machine.clone(booted(image))
