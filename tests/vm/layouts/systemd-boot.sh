# systemd-boot, with kernels that kernel-install copies to the ESP; no GRUB; UEFI.
# shellcheck source=/dev/null
. "$HERE/uefi.sh"

lay_out() {
    esp 700
    mkfs.ext4 -q -O ^orphan_file "$NEW0-part2"
    mount "$NEW0-part2" "$TARGET"
    mount_esp
}

configure() {
    fstab "$NEW0-part2" / ext4 errors=remount-ro
    fstab "$NEW0-part1" /boot/efi vfat umask=0077
    . "$TARGET/etc/default/grub"
    mkdir -p "$TARGET/etc/kernel"
    echo "root=UUID=$(uuid "$NEW0-part2") ro $GRUB_CMDLINE_LINUX" > "$TARGET/etc/kernel/cmdline"
    in_target apt-get purge -q -y grub-pc-bin grub-efi-amd64-bin grub2-common grub-common
    rm -rf "$TARGET/boot/grub"
}

install_loader() {
    in_target apt-get install -q -y systemd-boot
    in_target bootctl install
    printf '%s\n' 'timeout 1' > "$TARGET/boot/efi/loader/loader.conf"
    for kernel in "$TARGET"/boot/vmlinuz-*; do
        release=${kernel#*/vmlinuz-}
        in_target kernel-install add "$release" "/boot/vmlinuz-$release" "/boot/initrd.img-$release"
    done
    in_target bootctl list --no-pager
}
