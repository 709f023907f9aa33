# btrfs with the root in the subvolume @rootfs, as Debian's installer makes it, /boot in it; UEFI.
# shellcheck source=/dev/null
. "$HERE/uefi.sh"
PACKAGES="$PACKAGES btrfs-progs"

lay_out() {
    esp 128
    mkfs.btrfs -q "$NEW0-part2"
    mount "$NEW0-part2" "$TARGET"
    btrfs subvolume create "$TARGET/@rootfs"
    umount "$TARGET"
    mount -o subvol=@rootfs "$NEW0-part2" "$TARGET"
    mount_esp
}

configure() {
    fstab "$NEW0-part2" / btrfs subvol=@rootfs
    fstab "$NEW0-part1" /boot/efi vfat umask=0077
    initrd_modules btrfs
}
