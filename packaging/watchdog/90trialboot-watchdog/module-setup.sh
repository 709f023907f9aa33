#!/bin/bash
# Puts the hardware watchdog into the initrd where the operator has asked for it: see
# /usr/lib/trialboot/watchdog/trialboot-watchdog, which does the work here and there.

check() {
	[ -e /etc/trialboot/watchdog-in-initrd ] || return 1
	# shellcheck disable=SC2154
	/usr/lib/trialboot/watchdog/trialboot-watchdog settings "$kernel" > /dev/null
}

depends() {
	return 0
}

installkernel() {
	local MODULE=''
	eval "$(/usr/lib/trialboot/watchdog/trialboot-watchdog settings "$kernel")"
	[ -z "$MODULE" ] || instmods "$MODULE"
}

install() {
	inst_simple /usr/lib/trialboot/watchdog/trialboot-watchdog /bin/trialboot-watchdog
	# shellcheck disable=SC2154
	/usr/lib/trialboot/watchdog/trialboot-watchdog settings "$kernel" > "$initdir/etc/trialboot-watchdog"
	inst_multiple modprobe sleep
	# shellcheck disable=SC2154
	inst_hook pre-udev 00 "$moddir/begin.sh"
	inst_hook cleanup 99 "$moddir/end.sh"
}
