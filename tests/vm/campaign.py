"""Randomised campaigns: few rounds in ``make test``, all of them in ``make soak``, each with a seed that is
printed and can be given again (``GANDI_SEED=… make test-vm``).
"""

from __future__ import annotations

import os
import random


def rounds(short: int, full: int) -> int:
    """How many rounds a campaign plays now."""
    return full if os.environ.get("GANDI_SOAK") else short


def dice(name: str) -> random.Random:
    """The campaign's source of chance. Its seed is printed, which a test that fails shows."""
    seed = os.environ.get("GANDI_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"{name}: seed {seed} (once more with: GANDI_SEED={seed})")
    return random.Random(f"{name} {seed}")
