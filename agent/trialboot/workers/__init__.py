"""Oneshot units: one module each, started by the daemon, their result in a file."""
