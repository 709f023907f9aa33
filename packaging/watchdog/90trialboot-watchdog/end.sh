#!/bin/sh
/bin/trialboot-watchdog end "${NEWROOT:-/sysroot}"
