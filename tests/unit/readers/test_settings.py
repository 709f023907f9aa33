"""What the next boot sets from files: order, precedence, and what hides what."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import Setting, Unknown
from trialboot.host import Host
from trialboot.readers.settings import (
    ModprobeRule,
    parse_load_at_boot,
    parse_modprobe,
    parse_sysctl,
    read_settings,
)


def host(root: Path, files: dict[str, str]) -> Host:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return Host(root=root)


def told(found: tuple[Setting, ...] | Unknown, *kinds: str) -> list[tuple[str, str, str]]:
    assert not isinstance(found, Unknown), found
    return [(row.subject, row.value, row.source) for row in found if row.kind in kinds]


def test_a_host_without_such_files_sets_nothing(tmp_path: Path) -> None:
    assert read_settings(Host(root=tmp_path)) == ()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("net.ipv4.ip_forward=1", (("net.ipv4.ip_forward", "1"),)),
        (" net/ipv4/ip_forward = 1 ", (("net.ipv4.ip_forward", "1"),)),
        ("net/ipv4/conf/eth0.7/rp_filter=2", (("net.ipv4.conf.eth0/7.rp_filter", "2"),)),
        ("net.ipv4.conf.eth0/7.rp_filter=2", (("net.ipv4.conf.eth0/7.rp_filter", "2"),)),
        ("/net/core/somaxconn=1", (("net.core.somaxconn", "1"),)),
        (
            "net.ipv4.tcp_rmem = 4096\t131072  6291456",
            (("net.ipv4.tcp_rmem", "4096 131072 6291456"),),
        ),
        ("-kernel.x = 1", (("kernel.x", "1"),)),
        ("-net.ipv4.conf.lo.rp_filter", (("net.ipv4.conf.lo.rp_filter", ""),)),
        ("net.ipv4.conf.*.rp_filter=1", (("net.ipv4.conf.*.rp_filter", "1"),)),
        ("kernel.core_pattern=|/bin/x -a=%p", (("kernel.core_pattern", "|/bin/x -a=%p"),)),
        ("a.b=1\na.b=2", (("a.b", "1"), ("a.b", "2"))),
        ("# a.b=1\n; a.b=1\n\nno assignment\n=1\n-\n", ()),
    ],
)
def test_a_line_of_sysctl_is_read_as_systemd_reads_it(
    text: str, rows: tuple[tuple[str, str], ...]
) -> None:
    assert parse_sysctl(text) == rows


def test_the_file_with_the_last_name_wins_whatever_its_folder(tmp_path: Path) -> None:
    files = {
        "etc/sysctl.d/10-a.conf": "net.ipv4.ip_forward=0\nkernel.panic=10\n",
        "usr/lib/sysctl.d/90-b.conf": "net.ipv4.ip_forward=1\n",
    }
    assert told(read_settings(host(tmp_path, files)), "sysctl") == [
        ("kernel.panic", "10", "/etc/sysctl.d/10-a.conf"),
        ("net.ipv4.ip_forward", "1", "/usr/lib/sysctl.d/90-b.conf"),
    ]


@pytest.mark.parametrize(
    ("folders", "winner"),
    [
        (("etc", "run", "usr/local/lib", "usr/lib"), "etc"),
        (("run", "usr/local/lib", "usr/lib", "lib"), "run"),
        (("usr/local/lib", "usr/lib", "lib"), "usr/local/lib"),
        (("usr/lib", "lib"), "usr/lib"),
        (("lib",), "lib"),
    ],
)
def test_of_files_with_one_name_the_first_folder_counts(
    tmp_path: Path, folders: tuple[str, ...], winner: str
) -> None:
    files = {
        f"{folder}/sysctl.d/50-a.conf": f"a.b={folder}\na.{folder[:3]}=1\n" for folder in folders
    }
    found = told(read_settings(host(tmp_path, files)), "sysctl")
    assert (len(found), found[0]) == (2, ("a.b", winner, f"/{winner}/sysctl.d/50-a.conf"))


def test_a_link_to_nothing_hides_its_namesake(tmp_path: Path) -> None:
    made = host(tmp_path, {f"usr/lib/sysctl.d/{name}.conf": "a.b=1\n" for name in "xyz"})
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/x.conf").symlink_to("/dev/null")
    (tmp_path / "etc/sysctl.d/y.conf").symlink_to("gone")
    (tmp_path / "etc/sysctl.d/z.conf").touch()
    assert told(read_settings(made), "sysctl") == []


def test_only_files_of_the_right_name_are_read(tmp_path: Path) -> None:
    files = {
        "etc/sysctl.conf": "a.b=1\n",
        "etc/sysctl.d/a.conf.dpkg-old": "a.b=1\n",
        "etc/sysctl.d/.a.conf": "a.b=1\n",
        "etc/sysctl.d/README": "a.b=1\n",
    }
    made = host(tmp_path, files)
    assert told(read_settings(made), "sysctl") == []
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert told(read_settings(made), "sysctl") == [("a.b", "1", "/etc/sysctl.d/99-sysctl.conf")]


def rule(command: str, module: str, value: str = "") -> ModprobeRule:
    return ModprobeRule(command=command, module=module, value=value)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("blacklist snd-hda", (rule("blacklist", "snd_hda"),)),
        ("install usb-storage /bin/false", (rule("install", "usb_storage", "/bin/false"),)),
        ("install dccp /usr/bin/true", (rule("install", "dccp", "/usr/bin/true"),)),
        ("install a /sbin/modprobe --ignore-install a; true", ()),
        ("install a", ()),
        ("options kvm nested=1 x=2", (rule("options", "kvm", "nested=1 x=2"),)),
        ("options kvm nested=1 \\\n  x=2", (rule("options", "kvm", "nested=1 x=2"),)),
        ("alias a b\nremove a b\nsoftdep a pre: b\n# blacklist c\nblacklist\n\n", ()),
    ],
)
def test_a_line_of_modprobe_is_read(text: str, rules: tuple[ModprobeRule, ...]) -> None:
    assert parse_modprobe(text) == rules


def test_rules_of_modprobe_add_up(tmp_path: Path) -> None:
    files = {
        "etc/modprobe.d/a.conf": "install dccp /bin/false\noptions kvm nested=1\nblacklist b\n",
        "lib/modprobe.d/z.conf": "blacklist dccp\noptions kvm x=2\n",
    }
    found = read_settings(host(tmp_path, files))
    assert told(found, "blacklist", "modprobe option") == [
        ("b", "blacklist", "/etc/modprobe.d/a.conf"),
        ("dccp", "install /bin/false", "/etc/modprobe.d/a.conf"),
        ("kvm", "nested=1 x=2", "/lib/modprobe.d/z.conf"),
    ]


def test_modules_to_load_are_named(tmp_path: Path) -> None:
    assert parse_load_at_boot("# a\n; b\nbr-netfilter \n\noverlay\n") == (
        "br_netfilter",
        "overlay",
    )
    files = {"etc/modules-load.d/k8s.conf": "overlay\n", "usr/lib/modules-load.d/a.conf": "b\n"}
    assert told(read_settings(host(tmp_path, files)), "load at boot") == [
        ("b", "load", "/usr/lib/modules-load.d/a.conf"),
        ("overlay", "load", "/etc/modules-load.d/k8s.conf"),
    ]


def test_files_are_held_by_what_they_contain_and_those_in_folders_too(tmp_path: Path) -> None:
    paths = [
        "/etc/cni/net.d/10-a.conflist",
        "/etc/crypttab",
        "/etc/default/grub",
        "/etc/dracut.conf.d/a.conf",
        "/etc/fstab",
        "/etc/initramfs-tools/conf.d/resume",
        "/etc/initramfs-tools/initramfs.conf",
        "/etc/modprobe.d/a.conf",
        "/etc/netplan/50-cloud-init.yaml",
        "/etc/network/interfaces",
        "/etc/network/interfaces.d/eth0",
        "/etc/systemd/network/10-eth0.network",
        "/etc/systemd/network/10-eth0.network.d/a.conf",
    ]
    made = host(tmp_path, {path[1:]: path for path in paths} | {"etc/default/cron": ""})
    assert told(read_settings(made), "file") == [
        (path, hashlib.sha256(path.encode()).hexdigest(), "") for path in paths
    ]


def test_links_are_held_by_what_they_name_and_other_things_are_passed_by(tmp_path: Path) -> None:
    made = host(tmp_path, {"etc/other": "x"})
    folder = tmp_path / "etc/netplan"
    folder.mkdir()
    (folder / "a.yaml").symlink_to("../other")
    (folder / "b.yaml").symlink_to("gone")
    os.mkfifo(folder / "c.yaml")
    assert told(read_settings(made), "file") == [
        ("/etc/netplan/a.yaml", hashlib.sha256(b"x").hexdigest(), "")
    ]


@pytest.mark.parametrize(
    "path",
    [
        "etc/sysctl.d/a.conf",
        "etc/sysctl.d",
        "usr/lib/modprobe.d/a.conf",
        "etc/modules-load.d/a.conf",
        "etc/fstab",
        "etc/netplan/a.yaml",
    ],
)
def test_one_file_that_cannot_be_read_makes_all_unknown_and_is_named(
    tmp_path: Path, path: str
) -> None:
    made = host(tmp_path, {"etc/crypttab": ""})
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).symlink_to(Path(path).name)
    assert read_settings(made) == Unknown(f"{tmp_path / path}: Too many levels of symbolic links")


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    made = host(tmp_path, {"etc/sysctl.d/a.conf": ""})
    with (tmp_path / "etc/sysctl.d/a.conf").open("wb") as file:
        file.truncate(1 << 40)
    assert read_settings(made) == Unknown(
        "/etc/sysctl.d/a.conf is too large for a file of settings"
    )


@given(st.text(max_size=200), st.text(alphabet="-=./# ;ab\\\n\t", max_size=80))
def test_any_text_gives_settings_or_none(free: str, near: str) -> None:
    for text in (free, near, f"options {free}", f"install {near}", f"{free}={near}"):
        assert all(key and value == " ".join(value.split()) for key, value in parse_sysctl(text))
        assert all("-" not in found.module for found in parse_modprobe(text))
        assert all(name and "-" not in name for name in parse_load_at_boot(text))
