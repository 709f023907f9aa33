"""What the boot loader would boot next: its menu, and where the host keeps what it names."""

from trialboot.bootfiles import host_path, read_menu

__all__ = ["host_path", "read_menu"]
