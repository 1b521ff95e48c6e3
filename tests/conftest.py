"""For all tests: how long the randomised ones search (shortly in ``make test``, long in ``make soak``), and
the table of what each cost.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.soak.campaigns import EXAMPLES

pytest_plugins = ["tests.cost"]

settings.register_profile("test", max_examples=200, deadline=None)
# In make check, and in the guest's tree, where the same tests run with other packages.
settings.register_profile("few", max_examples=20, deadline=None)
settings.register_profile("soak", max_examples=EXAMPLES, deadline=None)
settings.load_profile("soak" if os.environ.get("GANDI_SOAK") else "test")
