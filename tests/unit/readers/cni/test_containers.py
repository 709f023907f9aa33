"""What a process's control groups and a container runtime's files tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.readers.cni.nodes import CILIUM, identity, slice_of
from trialboot.readers.cni.containers import Container, Place, parse_container, parse_place

A = identity("a")
STATIC = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("told", "text", "place"),
    [
        ("containerd", slice_of(CILIUM, A), Place(pod=CILIUM, container=A)),
        ("CRI-O", slice_of(CILIUM, A, "crio"), Place(pod=CILIUM, container=A)),
        (
            "the cgroupfs driver",
            f"0::/kubepods/burstable/pod{CILIUM}/{A}\n",
            Place(pod=CILIUM, container=A),
        ),
        ("a static pod", slice_of(STATIC, A), Place(pod=STATIC, container=A)),
        (
            "cgroups of version 1",
            f"11:memory:/kubepods/pod{CILIUM}/{A}\n1:name=systemd:/kubepods/pod{CILIUM}/{A}\n0::/\n",
            Place(pod=CILIUM, container=A),
        ),
        (
            "a node that is a container itself",
            f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{CILIUM}.slice/x-{A}.scope",
            Place(pod=CILIUM, container=A),
        ),
        (
            "a group that the container made",
            f"0::/kubepods/pod{CILIUM}/{A}/init.scope",
            Place(pod=CILIUM, container=A),
        ),
        ("docker alone", f"0::/system.slice/docker-{A}.scope", Place(container=A)),
        ("a service", "0::/system.slice/ovs.service", Place(unit="ovs.service")),
        ("a part of a service", "0::/system.slice/ovs.service/x", Place(unit="ovs.service")),
        (
            "a service of a user",
            "0::/user.slice/user-0.slice/user@0.service/app.slice/x.service",
            Place(),
        ),
        ("a session", "0::/user.slice/user-0.slice/session-1.scope", Place()),
        ("nothing", "", Place()),
        ("a pod that is none", "0::/kubepods/pod../x", Place()),
        ("too long for an id", f"0::/docker-{A}a.scope", Place()),
    ],
)
def test_places(told: str, text: str, place: Place) -> None:
    assert parse_place(text) == place, told


@given(st.text(max_size=200))
def test_any_text_gives_a_place_that_is_no_path(text: str) -> None:
    place = parse_place(text)
    assert not {"/", "\0", "\n"} & set(place.pod + place.container + place.unit)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_container(raw: bytes) -> None:
    assert isinstance(parse_container(raw), Container)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "annotations",
                    "Config",
                    "Labels",
                    "Image",
                    "io.kubernetes.cri.container-name",
                    "io.kubernetes.cri.image-name",
                ]
            ),
            inner,
        ),
        max_leaves=10,
    )
)
def test_any_object_gives_a_name_that_is_no_path(found: object) -> None:
    import json  # noqa: PLC0415  only here

    container = parse_container(json.dumps(found).encode())
    assert "/" not in container.name
    assert container.image.isprintable()
