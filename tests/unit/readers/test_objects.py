"""Compiled programs of the CNI: found where they lie, and looked for nowhere else."""

import os
from pathlib import Path

import pytest

from trialboot.host import Host
from trialboot.readers import objects
from trialboot.readers.objects import Found, read_objects

STATE = "var/run/cilium/state"
BPF = "usr/lib/calico/bpf"
FULL, NONE = "000001ffffffffff", "0000000000000000"


def write(root: Path, path: str, content: bytes = b"object") -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def agent(root: Path, pid: int, comm: str = "calico-node", capabilities: str = FULL) -> str:
    write(root, f"proc/{pid}/comm", f"{comm}\n".encode())
    write(root, f"proc/{pid}/status", f"Name:\t{comm}\nCapEff:\t{capabilities}\n".encode())
    (root / f"proc/{pid}/root/{BPF}").mkdir(parents=True)
    return f"proc/{pid}/root/{BPF}"


def names(root: Path) -> list[str]:
    return [one.name for one in read_objects(Host(root=root))[0]]


def test_a_host_without_a_cni_has_none(tmp_path: Path) -> None:
    assert read_objects(Host(root=tmp_path)) == ((), ())


def test_objects_on_the_host_and_in_the_agents_image_are_found(tmp_path: Path) -> None:
    write(tmp_path, f"{STATE}/bpf_sock.o", b"sock")
    write(tmp_path, f"{STATE}/templates/0a/bpf_lxc.o", b"lxc")
    write(tmp_path, f"{STATE}/node_config.h")
    write(tmp_path, f"{agent(tmp_path, 12)}/to_wep.o", b"wep")
    assert read_objects(Host(root=tmp_path)) == (
        (
            Found("/var/run/cilium/state/bpf_sock.o", b"sock", shipped=False),
            Found("/var/run/cilium/state/templates/0a/bpf_lxc.o", b"lxc", shipped=False),
            Found("calico-node:/usr/lib/calico/bpf/to_wep.o", b"wep", shipped=True),
        ),
        (),
    )


def test_the_link_from_var_run_is_followed(tmp_path: Path) -> None:
    write(tmp_path, "run/cilium/state/bpf_sock.o")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("../run")
    assert names(tmp_path) == ["/var/run/cilium/state/bpf_sock.o"]


@pytest.mark.parametrize(("comm", "capabilities"), [("calico-node", NONE), ("calico-nod", FULL)])
def test_a_pod_that_calls_itself_so_is_not_asked(
    tmp_path: Path, comm: str, capabilities: str
) -> None:
    write(tmp_path, f"{agent(tmp_path, 12, comm, capabilities)}/to_wep.o")
    assert names(tmp_path) == []


def test_no_link_leads_anywhere(tmp_path: Path) -> None:
    write(tmp_path, "etc/shadow.o", b"secret")
    folder = tmp_path / agent(tmp_path, 12)
    (folder / "a.o").symlink_to(tmp_path / "etc/shadow.o")
    (folder / "b.o").symlink_to("../../../../../../etc/shadow.o")
    (folder / "c.o").mkdir()
    os.mkfifo(folder / "d.o")
    (tmp_path / f"{STATE}/templates").mkdir(parents=True)
    (tmp_path / f"{STATE}/templates/0a").symlink_to(tmp_path / "etc")
    assert names(tmp_path) == []


def test_a_linked_folder_of_the_image_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/lib/calico/bpf/a.o")
    folder = tmp_path / agent(tmp_path, 12)
    folder.rmdir()
    usr = tmp_path / "proc/12/root/usr"
    (usr / "lib/calico").rmdir()
    (usr / "lib").rmdir()
    usr.rmdir()
    usr.symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path) == []


def test_what_is_too_large_is_told(tmp_path: Path) -> None:
    with write(tmp_path, f"{STATE}/huge.o").open("r+b") as file:
        file.truncate(objects.LARGEST + 1)
    found, left_out = read_objects(Host(root=tmp_path))
    assert found == ()
    assert left_out == ("/var/run/cilium/state/huge.o: it is larger than 16 MiB",)


def test_the_number_and_the_sum_of_sizes_have_an_end(tmp_path: Path) -> None:
    for number in range(objects.MOST_FILES + 3):
        write(tmp_path, f"{STATE}/{number:03}.o")
    found, left_out = read_objects(Host(root=tmp_path))
    assert len(found) == objects.MOST_FILES
    assert left_out == ("3 more: 128 files and 64 MiB are kept",)


def test_objects_without_a_debug_log_come_first(tmp_path: Path) -> None:
    folder = agent(tmp_path, 12)
    for name in ("to_wep_debug.o", "to_wep_no_log.o"):
        write(tmp_path, f"{folder}/{name}")
    assert [name.rpartition("/")[2] for name in names(tmp_path)] == [
        "to_wep_no_log.o",
        "to_wep_debug.o",
    ]


def test_a_name_of_any_bytes_is_told(tmp_path: Path) -> None:
    folder = tmp_path / agent(tmp_path, 12)
    (folder / os.fsdecode(b"\xff\n.o")).write_bytes(b"x")
    (name,) = names(tmp_path)
    assert name.endswith("/\ufffd\n.o")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path, f"{STATE}/templates/0a/bpf_lxc.o")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  names are enough
    read_objects(Host(root=tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
