from __future__ import annotations

from hypothesis import HealthCheck, settings

# A loaded machine makes any single example slow; what is tested is never how long it takes.
settings.register_profile("core", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("core")
