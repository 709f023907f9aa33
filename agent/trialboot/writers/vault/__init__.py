"""The vault: keeps boot sets whole, so that the known-good is there when packages replaced it.

Kernel and initrd lie below /boot, where the loader reads them; the firmware tree and the module
tree lie as hard links on the file system of /lib/firmware and /lib/modules. The folder below /boot
is renamed into place last: what stands there is complete.
"""
