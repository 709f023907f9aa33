# /boot is an ext4 partition of its own; BIOS.

lay_out() {
    printf '%s\n' 'label: dos' 'size=512M, bootable' 'type=83' | sfdisk -q "$NEW0"
    udevadm settle
    mkfs.ext4 -q -O ^orphan_file "$NEW0-part1"
    mkfs.ext4 -q -O ^orphan_file "$NEW0-part2"
    mount "$NEW0-part2" "$TARGET"
    mkdir "$TARGET/boot"
    mount "$NEW0-part1" "$TARGET/boot"
}

configure() {
    fstab "$NEW0-part2" / ext4 errors=remount-ro
    fstab "$NEW0-part1" /boot ext4 defaults
}

install_loader() {
    grub_bios "$NEW0"
    in_target update-grub
}
