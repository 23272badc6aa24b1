"""Laws are tried without a deadline: the machine may be busy with something else.

Forty examples a run: each run draws others.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")
