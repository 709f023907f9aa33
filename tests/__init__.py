"""All tests of trialboot: one folder a kind of machine."""
