# The root file system is in LUKS2, opened by a key file in the initrd; a plain /boot; BIOS.
PACKAGES=cryptsetup-initramfs
KEY=/etc/keys/root.key

lay_out() {
    printf '%s\n' 'label: dos' 'size=512M, bootable' 'type=83' | sfdisk -q "$NEW0"
    udevadm settle
    head -c 64 /dev/urandom > /root/root.key
    # A key of random bytes needs no stretching, and TCG would take minutes for it.
    cryptsetup -q luksFormat --type=luks2 --key-size=256 --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 \
        "$NEW0-part2" /root/root.key
    cryptsetup open --key-file=/root/root.key "$NEW0-part2" root_crypt
    mkfs.ext4 -q -O ^orphan_file "$NEW0-part1"
    mkfs.ext4 -q -O ^orphan_file /dev/mapper/root_crypt
    mount /dev/mapper/root_crypt "$TARGET"
    mkdir "$TARGET/boot"
    mount "$NEW0-part1" "$TARGET/boot"
}

configure() {
    fstab /dev/mapper/root_crypt / ext4 errors=remount-ro
    fstab "$NEW0-part1" /boot ext4 defaults
    install -D -m 0400 /root/root.key "$TARGET$KEY"
    echo "root_crypt UUID=$(uuid "$NEW0-part2") $KEY luks,discard" > "$TARGET/etc/crypttab"
    echo "KEYFILE_PATTERN=/etc/keys/*.key" >> "$TARGET/etc/cryptsetup-initramfs/conf-hook"
    echo "UMASK=0077" >> "$TARGET/etc/initramfs-tools/initramfs.conf"
    initrd_modules dm_crypt aes_generic xts sha256_generic
}

install_loader() {
    grub_bios "$NEW0"
    in_target update-grub
}
