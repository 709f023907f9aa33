"""Tests on a real machine: an image built from Debian's packages, booted by QEMU."""
