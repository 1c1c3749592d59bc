from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A loaded machine makes any single example slow; what is tested is never how long it takes.
settings.register_profile("core", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("core"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))
