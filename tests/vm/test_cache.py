"""The cache of images: what a machine or a saved state lies on stays, the rest of the old ones goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.vm.rig import image, paths


def _entry(folder: Path, name: str, age: float) -> Path:
    (entry := folder / name).mkdir(parents=True)
    (entry / "root.img").touch()
    used = time.time() - age
    os.utime(entry, (used, used))
    return entry


def test_old_images_with_nothing_on_them_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "IMAGES", images := tmp_path / "images")
    monkeypatch.setattr(image, "STATES", states := tmp_path / "states")
    lately = [_entry(images, f"lately-{i}", image.LATELY / 2) for i in range(image.KEPT_IMAGES + 2)]
    with_state, in_use, unused = (_entry(images, name, image.LATELY * 2) for name in ("a", "b", "c"))
    _entry(states, f"{with_state.name}-0123", 0)
    held = paths.hold(in_use)

    image.discard_old()
    assert {*images.iterdir()} == {*lately, with_state, in_use}
    assert not unused.exists()

    os.close(held)
    image.discard_old()
    assert {*images.iterdir()} == {*lately, with_state}
