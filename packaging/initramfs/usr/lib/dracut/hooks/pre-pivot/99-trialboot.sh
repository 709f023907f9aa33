#!/bin/sh
# Sourced by dracut once the real root is mounted, last before it is switched to; by initramfs-tools
# never. In a process of its own, for what ends it must not end dracut's.
if [ -f /scripts/trialboot ]; then
	rootmnt="${NEWROOT:-/sysroot}" /bin/sh /scripts/trialboot || :
fi
