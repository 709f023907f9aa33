"""The processes of a CNI, kube-proxy, the kubelet: which run, how long, how often restarted."""

from collections.abc import Iterator
from typing import Final

from trialboot.core.cni import AGENT_OF, AGENTS, NAMESPACES
from trialboot.core.facts import Agent, Unknown
from trialboot.errors import HostError
from trialboot.host import Host
from trialboot.processes import Running, running
from trialboot.readers.cni.boot import ThisBoot, read_this_boot
from trialboot.readers.cni.containers import Container, Place, read_container, read_place
from trialboot.readers.cni.logs import read_log_refusals
from trialboot.readers.cni.pods import (
    Pod,
    read_containers,
    read_logs,
    read_pods,
    read_starts,
    restarts_of,
)

_SYSTEMD: Final = "org.freedesktop.systemd1"


def read_agents(host: Host) -> tuple[Agent, ...] | Unknown:
    """Find the agents that run, and those whose container ran in this boot and is down.

    k3s runs flannel and kube-proxy inside its own process, which stands for them. A pod of a
    tenant's namespace is no agent, whatever its processes are called.
    """
    try:
        boot = read_this_boot(host)
        found = running(host, AGENTS)
    except HostError as error:
        return Unknown(str(error))
    return tuple(sorted(_Agents(host, boot).all(found), key=_order))


def _order(agent: Agent) -> tuple[str, float, str, int]:
    return agent.name, -agent.age, agent.image, agent.restarts or 0


class _Agents:
    """The agents of one moment."""

    def __init__(self, host: Host, boot: ThisBoot) -> None:
        self._host = host
        self._boot = boot
        self._pods = read_pods(host)
        self._seen: set[tuple[str, str]] = set()
        """Pod and container of each agent that runs."""

    def all(self, found: tuple[Running, ...]) -> Iterator[Agent]:
        for (name, place), age in _eldest(self._host, found).items():
            pod = self._pods.get(place.pod)
            if pod is None:
                yield self._outside(name, place, age)
            elif NAMESPACES.fullmatch(pod.namespace):
                yield self._inside(name, place, age, pod)
        yield from self._down()

    def _outside(self, name: str, place: Place, age: float) -> Agent:
        """Tell an agent that is a service, or one of whose pod there are no logs."""
        image = read_container(self._host, place.container).image
        restarts = _unit_restarts(self._host, place.unit)
        return Agent(name=name, age=age, restarts=restarts, image=image, pod=place.pod)

    def _inside(self, name: str, place: Place, age: float, pod: Pod) -> Agent:
        told = read_container(self._host, place.container)
        container = Container(
            name=told.name or _usual_container(pod, name) or name, image=told.image
        )
        self._seen.add((pod.uid, container.name))
        return self._agent(name, age, pod, container)

    def _down(self) -> Iterator[Agent]:
        """Find the agents that crash: between two runs their logs are all there is of them."""
        for pod in self._pods.values():
            if not NAMESPACES.fullmatch(pod.namespace):
                continue
            for name in AGENT_OF.keys() & set(read_containers(pod)):
                ran = any(log.this_boot for log in read_logs(pod, name, self._boot))
                if ran and (pod.uid, name) not in self._seen:
                    yield self._agent(AGENT_OF[name], 0.0, pod, Container(name=name))

    def _agent(self, name: str, age: float, pod: Pod, container: Container) -> Agent:
        logs = read_logs(pod, container.name, self._boot)
        starts = read_starts(self._host, pod, container.name, self._boot)
        return Agent(
            name=name,
            age=age,
            restarts=restarts_of(logs, starts),
            image=container.image,
            refusals=read_log_refusals(self._host, logs, self._boot),
            pod=pod.uid,
        )


def _eldest(host: Host, found: tuple[Running, ...]) -> dict[tuple[str, Place], float]:
    """Keep the eldest process of each name in a container: probes are run there beside it."""
    ages: dict[tuple[str, Place], float] = {}
    for process in found:
        place = read_place(host, process.pid)
        if place is not None:
            key = (process.name, place)
            ages[key] = max(process.age, ages.get(key, 0.0))
    return ages


def _usual_container(pod: Pod, agent: str) -> str:
    """Name the container of a pod that this agent usually runs in; empty if it has none."""
    named = [name for name in read_containers(pod) if AGENT_OF.get(name) == agent]
    return next(iter(named), "")


def _unit_restarts(host: Host, unit: str) -> int | None:
    if not unit:
        return None
    try:
        path = host.call(
            _SYSTEMD, "/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager", "LoadUnit", unit
        )
        properties = "org.freedesktop.DBus.Properties"
        return int(
            host.call(_SYSTEMD, path, properties, "Get", f"{_SYSTEMD}.Service", "NRestarts")
        )
    except (HostError, ValueError, TypeError):
        return None
