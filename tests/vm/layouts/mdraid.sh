# Everything, /boot included, is on a RAID1 of two disks; BIOS, GRUB on both.
PACKAGES=mdadm

# array SFDISK_LINES...: the same partitions on both disks, the last one of each in the array.
array() {
    for disk in "$NEW0" "$NEW1"; do
        printf '%s\n' 'label: dos' "$@" | sfdisk -q "$disk"
    done
    udevadm settle
    mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean \
        --bitmap=none --homehost=any --name=root "$NEW0-part$#" "$NEW1-part$#"
    mkfs.ext4 -q -O ^orphan_file /dev/md0
    mount /dev/md0 "$TARGET"
}

lay_out() { array 'type=fd, bootable'; }

configure() { configure_array; }

configure_array() {
    fstab /dev/md0 / ext4 errors=remount-ro
    initrd_modules raid1
    mdadm --detail --scan >> "$TARGET/etc/mdadm/mdadm.conf"
    in_target systemctl mask mdmonitor.service mdmonitor-oneshot.timer mdcheck_start.timer \
        mdcheck_continue.timer
}

install_loader() {
    grub_bios "$NEW0"
    grub_bios "$NEW1"
    in_target update-grub
}
