"""How long the randomised tests search: shortly in ``make test``, long in ``make soak``."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("test", max_examples=200, deadline=None)
settings.register_profile("soak", max_examples=20_000, deadline=None)
settings.load_profile("soak" if os.environ.get("GANDI_SOAK") else "test")
