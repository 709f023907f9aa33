"""Rules of all tests."""

from hypothesis import settings

# Speed is measured by `make bench`, not timed by tests: machines are shared.
settings.register_profile("trialboot", deadline=None)
settings.load_profile("trialboot")
