# What the layouts with UEFI share: a GPT with an ESP, and the rest of the disk.
PACKAGES=efibootmgr

# esp MIB: partition 1 is the ESP, partition 2 the rest.
esp() {
    printf '%s\n' 'label: gpt' "size=$1M, type=uefi" 'type=linux' | sfdisk -q "$NEW0"
    udevadm settle
    mkfs.vfat -n ESP "$NEW0-part1"
}

mount_esp() {
    mkdir -p "$TARGET/boot/efi"
    mount "$NEW0-part1" "$TARGET/boot/efi"
}

install_loader() {
    grub_uefi
    in_target update-grub
}
