#!/bin/sh
# Turns a Debian 12 root into the test node: kernels, toy firmware, units. Runs chrooted while
# the image is built; the parts are in /srv/repo, /parts. Lines that start with ">> " are progress.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo ">> $*"; }

release() { sed -n "s/^$1 //p" /parts/kernels; }

# The repository in the image is its only source, with its lists read already.
use_own_repository() {
    rm -rf /var/lib/apt/lists/* /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap
    echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list
    apt-get update -q
}

# sid's linux-base copies a kernel from its packages to /boot by a hook in /usr/share/kernel, a
# folder that the run-parts of Debian 12 cannot take beside /etc/kernel (see dpkg.cfg.d/guest).
keep_sids_hooks() {
    dpkg-deb -x /parts/extra/linux-base_*.deb /tmp/linux-base
    cp -R /tmp/linux-base/usr/share/kernel/. /etc/kernel/
    rm -r /tmp/linux-base
}

# Each takes seconds of every initrd made under TCG, for disks that this guest has not.
drop_initrd_hooks() {
    for hook in fsck dmsetup thermal; do
        path=/usr/share/initramfs-tools/hooks/$hook
        [ ! -e "$path" ] || dpkg-statoverride --update --add root root 0644 "$path"
    done
}

install_kernels() {
    mkdir -p "/lib/modules/$(release 6.12)/updates"
    cp /parts/toynic.ko "/lib/modules/$(release 6.12)/updates/"
    keep_sids_hooks
    drop_initrd_hooks
    apt-get install -q -y --no-install-recommends /parts/extra/*.deb \
        "linux-image-$(release 6.12)" firmware-toynic=1.0
    depmod "$(release 6.12)"
}

# A guest under TCG spends its boot on what no test looks at.
quiet_units() {
    systemctl mask \
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer fstrim.timer \
        e2scrub_all.timer e2scrub_reap.service systemd-tmpfiles-clean.timer logrotate.timer \
        getty@tty1.service serial-getty@ttyS0.service systemd-hwdb-update.service \
        systemd-pstore.service systemd-binfmt.service systemd-machine-id-commit.service \
        systemd-firstboot.service ldconfig.service systemd-update-utmp.service \
        systemd-update-utmp-runlevel.service keyboard-setup.service console-setup.service \
        systemd-networkd-wait-online.service hugetlbfs.mount dev-hugepages.mount \
        sys-kernel-debug.mount sys-kernel-tracing.mount \
        modprobe@drm.service modprobe@fuse.service sys-fs-fuse-connections.mount
    systemctl set-default multi-user.target
}

enable_units() {
    systemctl enable systemd-networkd.service
    # Only files of ours: links there are masks and aliases.
    for unit in $(find /etc/systemd/system -maxdepth 1 -type f -name '*.service' \
        -exec grep -l '^\[Install\]' {} +); do
        systemctl enable "$(basename "$unit")"
    done
}

say "installing kernels and toy firmware"
use_own_repository
install_kernels
say "units"
quiet_units
enable_units
passwd -d root > /dev/null
rm -rf /parts /install.sh /var/cache/apt/archives/*.deb /usr/share/doc/* /usr/share/locale/*
