"""Which CNI configuration the container runtime uses."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.facts import CniConfiguration, Unknown
from trialboot.host import Host
from trialboot.readers.cni.configuration import parse_configuration, read_configuration

CALICO = b'{"name": "k8s", "plugins": [{"type": "calico"}, {"type": "portmap"}]}'
SINGLE = b'{"cniVersion": "0.3.1", "name": "cilium", "type": "cilium-cni"}'
FOLDER = "/etc/cni/net.d"
K3S = "/var/lib/rancher/k3s/agent/etc/cni/net.d"


def write(root: Path, path: str, content: bytes) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def read(root: Path) -> CniConfiguration | Unknown | None:
    return read_configuration(Host(root=root))


def why(root: Path) -> str:
    found = read(root)
    assert isinstance(found, Unknown)
    return found.why


def test_without_a_folder_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_a_folder_with_other_files_alone_has_none(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/05-cilium.conflist.cilium_bak", SINGLE)
    write(tmp_path, f"{FOLDER}/calico-kubeconfig", b"")
    (tmp_path / "etc/cni/net.d/01-folder.conf").mkdir()
    assert read(tmp_path) is None


def test_the_first_file_by_name_is_the_one(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/87-podman-bridge.conflist", SINGLE)
    write(tmp_path, f"{FOLDER}/10-calico.conflist", CALICO)
    assert read(tmp_path) == CniConfiguration(
        path=f"{FOLDER}/10-calico.conflist",
        plugins=("calico", "portmap"),
        digest=hashlib.sha256(CALICO).hexdigest(),
    )


def test_a_file_of_one_plugin_is_that_plugin(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/05-cilium.conf", SINGLE)
    found = read(tmp_path)
    assert isinstance(found, CniConfiguration)
    assert found.plugins == ("cilium-cni",)


@pytest.mark.parametrize("folder", [K3S, "/var/snap/microk8s/current/args/cni-network"])
def test_the_folder_of_a_distribution_comes_first(tmp_path: Path, folder: str) -> None:
    write(tmp_path, f"{FOLDER}/00-podman.conflist", SINGLE)
    write(tmp_path, f"{folder}/10-flannel.conflist", CALICO)
    found = read(tmp_path)
    assert isinstance(found, CniConfiguration)
    assert found.path == f"{folder}/10-flannel.conflist"


def test_an_empty_folder_of_a_distribution_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / K3S.lstrip("/")).mkdir(parents=True)
    write(tmp_path, f"{FOLDER}/05-cilium.conf", SINGLE)
    assert isinstance(read(tmp_path), CniConfiguration)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "it is no JSON: "),
        (b"[" * 100_000, "it is no JSON: "),
        (b"\xff\xfe\xff", "it is no JSON: "),
        (b"[]", "it is no CNI configuration"),
        (b"7", "it is no CNI configuration"),
        (b'{"plugins": [{"kind": "calico"}]}', "it is no CNI configuration"),
        (b'{"plugins": [{"type": ["calico"]}]}', "it is no CNI configuration"),
        (b'{"plugins": []}', "it names no plugin"),
    ],
)
def test_a_first_file_that_makes_no_sense_is_unknown(
    tmp_path: Path, content: bytes, told: str
) -> None:
    write(tmp_path, f"{FOLDER}/00-bad.conflist", content)
    write(tmp_path, f"{FOLDER}/10-calico.conflist", CALICO)
    assert why(tmp_path).startswith(f"{FOLDER}/00-bad.conflist: {told}")


def test_a_file_without_an_end_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/00-bad.conf", b"")
    os.truncate(tmp_path / "etc/cni/net.d/00-bad.conf", 1 << 40)
    assert why(tmp_path) == f"{FOLDER}/00-bad.conf: File too large"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/kubeconfig", b"")
    os.mkfifo(tmp_path / "etc/cni/net.d/00-pipe.conf")
    assert why(tmp_path) == f"{FOLDER}/00-pipe.conf: it is no plain file"


def test_a_link_to_nowhere_is_unknown_and_not_absent(tmp_path: Path) -> None:
    write(tmp_path, f"{FOLDER}/kubeconfig", b"")
    (tmp_path / "etc/cni/net.d/00-a.conf").symlink_to("nowhere")
    assert why(tmp_path) == f"{FOLDER}/00-a.conf: No such file or directory"


@given(st.binary(max_size=300), st.sampled_from(["a.conf", "a.conflist", "\udcff\n.json"]))
def test_any_bytes_give_an_answer(raw: bytes, path: str) -> None:
    found = parse_configuration(path, raw)
    assert isinstance(found, Unknown) or found.plugins


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "plugins", "name"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(["a.conf", "a.conflist"]))
def test_any_json_gives_plugins_or_a_reason_that_can_be_shown(value: object, path: str) -> None:
    found = parse_configuration(path, json.dumps(value).encode())
    texts = [found.why] if isinstance(found, Unknown) else found.plugins
    assert all(text.isprintable() for text in texts)
