"""Faults in a candidate's initrd, turned on from outside: by the machine's serial number.

So one armed disk serves them all, on every host: nothing has to be changed on it, and the boot set
that was armed is the one that boots.
"""

from __future__ import annotations

PLACE = "/etc/initramfs-tools/scripts/init-premount/fault"
HANGS = "fault: hangs here"
SCRIPT = f"""\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
case $(uname -r) in 7.*) ;; *) exit 0 ;; esac
read -r fault < /sys/class/dmi/id/product_serial
case $fault in
    panic-early) echo c > /proc/sysrq-trigger ;;
    hang-early)
        echo "{HANGS}" > /dev/console
        while :; do sleep 60; done
        ;;
esac
"""
