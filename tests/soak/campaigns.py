"""The parts of the soak by name. ``tests/unit/test_soak.py`` checks that every long test is in one."""

from __future__ import annotations

from dataclasses import dataclass

#: Examples of each randomised unit test in each run of its part.
EXAMPLES = 1_000
_VM = "tests/vm"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A part of the soak: its description for the page, and its tests as arguments for pytest.

    ``runs`` is how often pytest runs it, each time with another seed, for tests without rounds. 0: once; a
    test with rounds reports their number. ``whole``: its rounds belong together, so it is never continued.
    """

    what: str
    tests: tuple[str, ...]
    runs: int = 0
    #: The columns of the part's own table, of which its test reports the rows; () without one.
    columns: tuple[str, ...] = ()
    whole: bool = False


CAMPAIGNS = {
    "units": Campaign(
        f"randomised unit tests; a round is up to {EXAMPLES:,} examples of each",
        ("tests/unit", "-m", "hypothesis", "-n", "2"),
        runs=20,
    ),
    "kills": Campaign(
        "the daemon killed while a disk is attached, grown, detached",
        (f"{_VM}/test_campaigns.py::test_killed_at_any_moment_the_end_is_right",),
    ),
    "phases": Campaign(
        "the daemon killed idle, starting, ending, and at work",
        (f"{_VM}/test_kills.py::test_killed_in_every_phase_nothing_is_missed",),
    ),
    "stages": Campaign(
        "the daemon killed in the stages of a first boot",
        (f"{_VM}/test_kills.py::test_killed_in_a_stage_of_a_first_boot_the_machine_is_configured",),
    ),
    "resets": Campaign(
        "the machine reset while a disk is attached, grown, detached",
        (f"{_VM}/test_campaigns.py::test_reset_at_any_moment_the_end_is_right",),
    ),
    "on-demand": Campaign(
        "a disk attached, grown, detached while the daemon is not running, starts, exits",
        (f"{_VM}/test_on_demand.py::test_nothing_is_missed_while_it_is_away_starts_or_leaves",),
    ),
    "administrator": Campaign(
        "umount, mkfs, check, new tables and mount elsewhere, by hand",
        (f"{_VM}/test_admin.py::test_umount_mkfs_and_mount_elsewhere_are_never_interfered_with",),
    ),
    "operator": Campaign(
        "random actions of an administrator and the platform on four disks, against a model",
        (f"{_VM}/test_operator.py::test_random_actions_of_an_operator_end_as_the_model_says",),
    ),
    "week": Campaign(
        "a week, idle time skipped: 10,000 events of the agent's devices, 100,000 of others, hours of rest",
        (f"{_VM}/test_week.py",),
        columns=("days", "events", "of others", "starts", "lines", "files", "bytes", "daemon, KiB"),
        whole=True,
    ),
    "matrix": Campaign(
        "every bus, table and filesystem in one machine",
        (f"{_VM}/test_disk_matrix.py::test_each_kind_of_bus_table_and_filesystem",),
    ),
    "burst": Campaign(
        "64 disks in a burst with hostile labels: mounted, enlarged, removed while in use",
        (f"{_VM}/test_disk_burst.py::test_disks_come_grow_and_go_at_once",),
    ),
    "crowd": Campaign(
        "256 disks in a burst come and go for an hour: memory is flat, and nothing is left over",
        (f"{_VM}/test_disk_crowd.py::test_256_disks_come_and_go_and_nothing_is_left",),
        whole=True,
    ),
    "crowd-cost": Campaign(
        "bursts of 32, 64, 128 and 256 disks: the order of the cost, by counted instructions",
        (f"{_VM}/test_disk_crowd.py::test_the_order_of_the_cost_of_a_burst",),
    ),
    "releases": Campaign(
        "the core promises on each release of Debian; an upgrade to the next one",
        (
            f"{_VM}/test_releases.py::test_the_core_promises",
            f"{_VM}/test_releases.py::test_a_configuration_drive",
            f"{_VM}/test_releases.py::test_the_next_release",
        ),
    ),
    "roots": Campaign("XFS and btrfs roots of every table grow", (f"{_VM}/test_root_growth.py",)),
    "identity": Campaign(
        "another id is another instance, another UUID without a medium is the same",
        (
            f"{_VM}/test_later_boots.py::test_another_id_is_another_instance",
            f"{_VM}/test_later_boots.py::test_no_medium_and_another_uuid_is_the_same_instance",
        ),
    ),
    "beside": Campaign(
        "NoCloud seeds through cloud-init and through the agent make the same machine",
        ("tests/system/test_beside_cloud_init.py",),
        whole=True,
    ),
    "automounter": Campaign(
        "the automounter at a boot, and with the administrator's own file",
        (f"{_VM}/test_mount_modes.py::test_the_automounter_at_a_boot_and_with_the_administrators_file",),
    ),
    "ganeti": Campaign(
        "disks made by Ganeti's hook and OS definition boot and are grown; each command of docs/ganeti.md",
        (
            f"{_VM}/test_offline.py::test_a_disk_made_by_ganetis_hook_boots_and_is_grown",
            f"{_VM}/test_ganeti_styles.py::test_it_boots_as_the_instance",
            "tests/system/test_ganeti_cluster.py::test_each_command_of_the_guide_does_what_it_says",
            "tests/system/test_ganeti_create.py::test_an_instance_from_a_release",
            "tests/system/test_ganeti_apt.py::test_a_release_by_a_proxy_with_a_password",
            "tests/system/test_ganeti_apt.py::test_an_image_gets_packages_and_its_locale",
            "tests/system/test_ganeti_apt.py::test_the_hook_installs_packages_and_writes_the_sources",
            "tests/system/test_boot_loader.py::test_an_instance_from_a_release",
        ),
    ),
    "baking": Campaign(
        "images with the agent by mmdebstrap, mkosi and virt-customize, as docs/baking.md says",
        (f"{_VM}/test_baking.py", "tests/system/test_baking.py"),
    ),
    "udisks": Campaign(
        "a user's loop device with the label of a configuration drive",
        (f"{_VM}/test_drives.py::test_a_loop_device_that_a_user_makes_through_udisks",),
    ),
    "unprivileged": Campaign(
        "random attacks by a user, ten minutes, while a disk is attached, grown, detached and keys arrive",
        (f"{_VM}/test_unprivileged.py::test_an_unprivileged_user_stops_nothing_and_writes_nothing",),
        whole=True,
    ),
    "no-room": Campaign(
        "no space, no inodes, a read-only root, disks with errors: at a first boot, an attach, a growth",
        (f"{_VM}/test_no_room.py",),
    ),
    "nth-write": Campaign(
        "EIO from the nth write on, or room for the first k files: at a first boot, an attach, a growth",
        (f"{_VM}/test_nth_write.py::test_from_any_write_on_what_fails_is_named_and_nothing_is_lost",),
    ),
    "cuts": Campaign(
        "a first boot and `apply` interrupted at a flush, then run again",
        ("tests/system/test_cuts.py::test_a_power_cut_at_a_flush_leaves_nothing_half_done",),
    ),
    "power-cuts": Campaign(
        "a guest's first boot with the power cut after a write to its disks, then booted again",
        (f"{_VM}/test_power_cuts.py",),
    ),
    "fuzz": Campaign(
        "each reader of bytes that others wrote, searched by coverage; a round is a minute of one",
        ("tests/fuzz/test_campaign.py",),
        columns=("target", "runs", "edges", "inputs", "seconds", "findings"),
    ),
    "arm64": Campaign(
        "arm64 by UEFI, with ACPI and DMI: a first boot, and memory that is added",
        (f"{_VM}/test_arm64.py::test_by_uefi_it_is_the_machine_and_takes_memory",),
    ),
    "rig": Campaign("the test rig's own test", (f"{_VM}/test_rig.py",)),
}
