#!/bin/sh
# Runs once as init in the fresh image: makes the ESP and installs GRUB for BIOS and for UEFI,
# which needs the real disk. Arguments: the ESP's volume id. Says PROVISIONED when all is well.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

say() { echo ">> $*" > /dev/console; }

finish() {
    sync
    umount /boot/efi
    mount -o remount,ro /
    echo o > /proc/sysrq-trigger
    sleep 60
}

provision() {
    set -e
    mkfs.vfat -i "$1" -n ESP /dev/vda1
    mkdir -p /boot/efi /boot/grub
    mount -t vfat /dev/vda1 /boot/efi
    grub-install --target=i386-pc /dev/vda
    grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
    update-grub
    rm -f /provision.sh
}

mount -o remount,rw /
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
say "installing the boot loaders"
if (provision "$1") > /dev/console 2>&1; then say PROVISIONED; else say "PROVISIONING FAILED"; fi
finish
