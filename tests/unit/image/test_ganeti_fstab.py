"""The new table of filesystems after an import."""

from __future__ import annotations

import pytest

from agent.image.ganeti_fstab import mended

ROOT, SWAP = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
NEW = f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n"
SWAPPED = f"UUID={SWAP} none swap sw 0 0\n"


@pytest.mark.parametrize(
    ("before", "swap", "after"),
    [
        ("", "", NEW),
        ("", SWAP, NEW + SWAPPED),
        ("UUID=old / ext4 noatime 0 1", "", NEW.replace("errors=remount-ro", "noatime")),
        ("UUID=old / xfs inode64 0 0", "", NEW),
        ("/dev/sda2 / ext4", "", NEW),
        (
            "# UUID=old / ext4 x 0 1\n\n/dev/sda1 none swap sw 0 0\n",
            SWAP,
            f"# UUID=old / ext4 x 0 1\n\n{SWAPPED}{NEW}",
        ),
        ("LABEL=s swap swap sw 0 0\n", "", f"# not imported: LABEL=s swap swap sw 0 0\n{NEW}"),
        (
            "UUID=a none swap sw\nUUID=b none swap sw\n",
            SWAP,
            f"{SWAPPED}# not imported: UUID=b none swap sw\n{NEW}",
        ),
        ("/swapfile none swap sw 0 0\n", "", f"/swapfile none swap sw 0 0\n{NEW}"),
        ("/dev/sdb1 /srv ext4 defaults 0 2\nodd\n", "", f"/dev/sdb1 /srv ext4 defaults 0 2\nodd\n{NEW}"),
        ("UUID=a / ext4\nUUID=b / ext4\n", "", NEW),
    ],
)
def test_root_and_swap_are_the_new_ones_and_the_rest_stays(before: str, swap: str, after: str) -> None:
    assert mended(before, ROOT, "ext4", swap) == after
