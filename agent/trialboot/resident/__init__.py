"""The parts of the resident daemon: each one subject, wired together in `daemon`."""
