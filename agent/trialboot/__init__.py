"""trialboot: every changed boot is a trial that goes back by itself."""

__version__ = "0.1.0"
