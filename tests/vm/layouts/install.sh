#!/bin/sh
# Installs the system that runs on the machine's blank disks, as the layout beside this file says.
# Runs in the base guest. A layout (one file a host) gives two functions:
#   lay_out     partitions and file systems of $NEW0 (and $NEW1), all mounted below $TARGET
#   configure   what the copy needs before its initrd is made: fstab, loader, ...
# and may set PACKAGES, of the packages disk. Lines that start with ">> " are progress.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

HERE=$(dirname "$0")
TARGET=/target
# shellcheck disable=SC2034  # layouts use them
NEW0=/dev/disk/by-id/virtio-new0
# shellcheck disable=SC2034
NEW1=/dev/disk/by-id/virtio-new1
OWN_SOURCES=/etc/apt/sources.list.d/packages.list
PACKAGES=

say() { echo ">> $*"; }

use_packages() {
    mkdir -p /media/packages
    mount -o ro /dev/disk/by-id/virtio-packages /media/packages
    echo 'deb [trusted=yes] file:/media/packages ./' > "$OWN_SOURCES"
    apt-get update -q
}

# Initrds are made once, when all is in place; a second kernel would only cost time.
install_packages() {
    sed -i 's/^update_initramfs=.*/update_initramfs=no/' /etc/initramfs-tools/update-initramfs.conf
    apt-get purge -q -y 'linux-image-6.1.*'
    # shellcheck disable=SC2086  # one word a package
    apt-get install -q -y fdisk e2fsprogs dosfstools $PACKAGES
}

copy() {
    mkdir -p /source
    mount --bind / /source
    tar -C /source -c --exclude=./target --exclude=./media/packages --exclude=./srv/lost+found . \
        | tar -C "$TARGET" -x
    umount /source
    mkdir -p "$TARGET/media/packages"
}

# The base image does without some hooks of initramfs-tools that its own disk does not need.
restore_initrd_hooks() {
    for hook in $(in_target dpkg-statoverride --list '/usr/share/initramfs-tools/hooks/*' \
        | sed 's/.* //'); do
        case $hook in */dmsetup) in_target dpkg-statoverride --remove "$hook"; in_target chmod 755 "$hook" ;; esac
    done
}

in_target() { chroot "$TARGET" "$@"; }

enter_target() {
    for folder in dev proc sys run media/packages; do
        mkdir -p "$TARGET/$folder"
        mount --rbind --make-rslave "/$folder" "$TARGET/$folder"
    done
}

uuid() { blkid -s UUID -o value "$1"; }

# fstab DEVICE PLACE TYPE OPTIONS: one line of the copy's fstab; the first call begins it anew.
fstab() {
    [ "$2" != / ] || : > "$TARGET/etc/fstab"
    echo "UUID=$(uuid "$1") $2 $3 $4 0 0" >> "$TARGET/etc/fstab"
}

initrd_modules() { printf '%s\n' "$@" >> "$TARGET/etc/initramfs-tools/modules"; }

grub_bios() { in_target grub-install --target=i386-pc "$(readlink -f "$1")"; }

# With an entry among the firmware's, as Debian's installer makes it.
grub_uefi() {
    in_target grub-install --target=x86_64-efi --efi-directory=/boot/efi --bootloader-id=debian \
        --force-extra-removable
}

make_initrds() {
    sed -i 's/^update_initramfs=.*/update_initramfs=yes/' \
        "$TARGET/etc/initramfs-tools/update-initramfs.conf"
    in_target update-initramfs -u -k all
}

# What boots this host without its boot loader, handed out on a disk.
hand_out_kernel() {
    set -- "$TARGET"/boot/vmlinuz-*
    cp "$1" /root/vmlinuz
    cp "$TARGET/boot/initrd.img-${1#*/vmlinuz-}" /root/initrd.img
    if [ -e "$TARGET/etc/kernel/cmdline" ]; then
        cat "$TARGET/etc/kernel/cmdline"
    else
        sed -n 's/^[[:space:]]*linux[[:space:]]*[^ ]* //p' "$TARGET/boot/grub/grub.cfg" | head -n 1
    fi > /root/command-line
    tar -C /root -cf /dev/disk/by-id/virtio-kernel vmlinuz initrd.img command-line
}

leave_target() {
    rm -f "$TARGET$OWN_SOURCES"
    in_target apt-get update -q
    sync
    # What was bound there is in use at its own place.
    for folder in dev proc sys run media/packages; do
        umount -R -l "$TARGET/$folder"
    done
    umount -R "$TARGET"
}

# shellcheck source=/dev/null
. "$HERE/layout.sh"
say "packages"
use_packages
install_packages
say "disks"
mkdir -p "$TARGET"
lay_out
say "copying the system"
copy
enter_target
say "configuring"
restore_initrd_hooks
configure
say "initrds"
make_initrds
say "boot loader"
install_loader
hand_out_kernel
leave_target
say INSTALLED
