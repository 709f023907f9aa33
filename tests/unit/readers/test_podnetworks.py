"""Pods as places to send from: their links, gateways and Service, from what is read of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialboot.core.proof import Means, Way
from trialboot.readers.podnetworks import parse_ends, parse_gateway, parse_service


class Message(dict[str, Any]):
    """What versions of pyroute2 agree on."""

    def get_attr(self, name: str) -> Any:
        return dict(self["attrs"]).get(name)


def link(name: str, index: int = 5, **attributes: int) -> Message:
    named = {"ifname": name, "link": 2, "link_netnsid": 0} | attributes
    return Message(index=index, attrs=[(f"IFLA_{key.upper()}", v) for key, v in named.items()])


def route(gateway: str | None, **fields: int) -> Message:
    attributes = [("RTA_GATEWAY", gateway)] if gateway else []
    return Message({"dst_len": 0, "type": 1, "table": 254} | fields, attrs=attributes)


def test_the_ends_of_pods_are_told_by_name_and_by_their_other_namespace() -> None:
    links = [
        link("lxc1a2b", 5, link=2, link_netnsid=0),
        link("lxc_health", 6, link=9, link_netnsid=1),
        link("cali0a", 7, link=3, link_netnsid=2),
        link("docker0", 8),
        Message(index=9, attrs=[("IFLA_IFNAME", "lxc77"), ("IFLA_LINK", 10)]),  # both ends here
        Message(index=1, attrs=[("IFLA_IFNAME", "lo")]),
    ]
    assert parse_ends(links) == {0: ("lxc1a2b", 2), 1: ("lxc_health", 9), 2: ("cali0a", 3)}


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ([], ""),
        ([route("10.0.0.1")], "10.0.0.1"),
        ([route("10.0.0.9", dst_len=8), route("10.0.0.1")], "10.0.0.1"),
        ([route(None)], ""),
        ([route("10.0.0.1", table=7)], ""),
        ([route("10.0.0.1", type=6)], ""),
        ([route(None), route("10.0.0.1")], "10.0.0.1"),
    ],
)
def test_the_gateway_is_that_of_the_default_route(routes: list[Message], gateway: str) -> None:
    assert parse_gateway(routes) == gateway


def service(address: str, port: int) -> Way:
    return Way(means=Means.TCP, address=address, port=port)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (b"", None),
        (b"A=b\0KUBERNETES_SERVICE_HOST=10.43.0.1\0", service("10.43.0.1", 443)),
        (
            b"KUBERNETES_SERVICE_PORT=6443\0KUBERNETES_SERVICE_HOST=fd00::1\0",
            service("fd00::1", 6443),
        ),
        (b"KUBERNETES_SERVICE_HOST=api.example\0", None),
        (b"KUBERNETES_SERVICE_HOST=10.0.0.1\0KUBERNETES_SERVICE_PORT=x\0", None),
        (b"KUBERNETES_SERVICE_HOST=10.0.0.1\0KUBERNETES_SERVICE_PORT=70000\0", None),
        (b"KUBERNETES_SERVICE_PORT=443\0", None),
        (b"XKUBERNETES_SERVICE_HOST=10.0.0.1\0", None),
    ],
)
def test_the_service_is_what_a_process_was_told(environment: bytes, told: Way | None) -> None:
    assert parse_service(environment) == told


@given(st.binary())
def test_any_environment_is_survived(environment: bytes) -> None:
    for raw in (environment, b"KUBERNETES_SERVICE_HOST=" + environment):
        found = parse_service(raw)
        assert found is None or (found.means is Means.TCP and 0 < found.port < 65536)
