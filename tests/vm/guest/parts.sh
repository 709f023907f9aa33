#!/bin/sh
# Makes what the image is put together from, in a throw-away Debian 12 root with a compiler:
#   /parts/repo     a flat package repository: kernels and unattended-upgrades as Debian made them,
#                   and toy firmware
#   /parts/extra    packages the image installs but must not offer (6.1 kernel, sid's linux-base)
#   /parts/toynic.ko, /parts/kernels ("SERIES RELEASE" a line)
# Runs chrooted; the module's source is in /module. Lines that start with ">> " are progress.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo ">> $*"; }

# The mirror is the one that this root was made from: no host is named here.
add_suites() {
    entry=$(sed -n 's/^\(deb .*\) bookworm main.*/\1/p' /etc/apt/sources.list | head -n 1)
    [ -n "$entry" ] || { echo "parts.sh: no bookworm line in sources.list"; exit 1; }
    printf '%s\n' "$entry bookworm-backports main" "$entry sid main" >> /etc/apt/sources.list
    # Nothing comes from these two unless it is asked for by name and suite.
    cat > /etc/apt/preferences.d/pins <<PINS
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: *
Pin: release n=bookworm-backports
Pin-Priority: 100
PINS
    apt-get update -q
}

# newest PATTERN: the newest cloud kernel whose release matches.
newest() {
    apt-cache pkgnames linux-image- | sed -n 's/^linux-image-//p' | grep -E "^$1-cloud-amd64\$" \
        | sort -V | tail -n 1 | grep . || { echo "parts.sh: no kernel matches $1" >&2; exit 1; }
}

# Kernels of sid are split in several packages of the same release.
split_packages() {
    apt-cache show "linux-image-$1" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' \
        | sed 's/^ *//; s/ .*//' | grep -F -e "-$1" | sort -u
}

fetch_kernels() {
    old=$(newest '6\.1\.0-[0-9]+')
    usual=$(newest '6\.12\.[0-9]+\+deb12(\.[0-9]+)?')
    next=$(newest '7\.[0-9]+\.[0-9]+\+deb[0-9]+')
    say "kernels: $old, $usual, $next"
    printf '%s %s\n' 6.1 "$old" 6.12 "$usual" "${next%%.*}" "$next" > /parts/kernels
    (cd /parts/extra && apt-get download -q "linux-image-$old" linux-base/sid)
    # shellcheck disable=SC2046  # one word a package
    (cd /parts/repo && apt-get download -q "linux-image-$usual" "linux-image-$next/sid" \
        $(split_packages "$next" | sed 's,$,/sid,'))
}

# With what it needs and the guest has not: about 1.5 MB.
fetch_unattended_upgrades() {
    (cd /parts/repo && apt-get download -q unattended-upgrades python3-apt python-apt-common \
        python3-distro-info distro-info-data lsb-release lsb-base ucf sensible-utils xz-utils)
}

build_module() {
    say "building toynic for $usual"
    apt-get install -q -y --no-install-recommends "linux-headers-$usual"
    make -C /module "RELEASE=$usual"
    strip --strip-debug /module/toynic.ko
    cp /module/toynic.ko /parts/toynic.ko
}

# toy_firmware VERSION CONTENT: as Ubuntu's linux-firmware does, it renews every initrd.
toy_firmware() {
    tree=/tmp/toy-$1
    mkdir -p "$tree/DEBIAN" "$tree/lib/firmware/toynic"
    echo "$2" > "$tree/lib/firmware/toynic/nic.bin"
    cat > "$tree/DEBIAN/control" <<CONTROL
Package: firmware-toynic
Version: $1
Architecture: all
Maintainer: trialboot tests <root@localhost>
Section: kernel
Priority: optional
Description: firmware of the toynic network device
CONTROL
    cat > "$tree/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e

case "$1" in
    configure)
        update-initramfs -u -k all
        ;;
esac
POSTINST
    chmod 755 "$tree/DEBIAN/postinst"
    dpkg-deb --root-owner-group -b "$tree" /parts/repo/
}

mkdir -p /parts/repo /parts/extra
# apt fetches as another user, who may not write here: fetch as root, the root is thrown away.
echo 'APT::Sandbox::User "root";' > /etc/apt/apt.conf.d/90parts
add_suites
fetch_kernels
fetch_unattended_upgrades
build_module
say "toy firmware"
toy_firmware 1.0 "GOOD 1.0"
toy_firmware 1.1 "GOOD 1.1"
toy_firmware 2.0 "BROKEN 2.0"
(cd /parts/repo && apt-ftparchive packages . > Packages && apt-ftparchive release . > /tmp/Release \
    && mv /tmp/Release Release)
