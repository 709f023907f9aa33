# One volume group holds the root file system, /boot included; UEFI.
# shellcheck source=/dev/null
. "$HERE/uefi.sh"
PACKAGES="$PACKAGES lvm2"

lay_out() {
    esp 128
    pvcreate -q "$NEW0-part2"
    vgcreate -q system "$NEW0-part2"
    lvcreate -q -y -n root -l 90%FREE system
    mkfs.ext4 -q -O ^orphan_file /dev/system/root
    mount /dev/system/root "$TARGET"
    mount_esp
}

configure() {
    fstab /dev/system/root / ext4 errors=remount-ro
    fstab "$NEW0-part1" /boot/efi vfat umask=0077
    initrd_modules dm_mod
}
