"""What every test shares: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# In CI the same cases every time, so that a change is judged by what it changed; at the desk, new ones every time.
# How long a case takes says nothing on a machine that does other things too.
settings.register_profile(
    "house",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")
