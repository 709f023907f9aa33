# As mdraid, and on each disk a small partition that is in no array: one that GRUB can write.
# shellcheck source=/dev/null
. "$HERE/mdraid.sh"

lay_out() {
    array 'size=64M, type=83' 'type=fd, bootable'
    mkfs.ext2 -q "$NEW0-part1"
    mkdir -p "$TARGET/boot/plain"
    mount "$NEW0-part1" "$TARGET/boot/plain"
}

configure() {
    configure_array
    fstab "$NEW0-part1" /boot/plain ext2 defaults
}
