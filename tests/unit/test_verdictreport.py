"""A verdict is told check by check, and a contract by the lines that its amendments name."""

from tests.unit.core.samples import contract
from trialboot.core.contract import Amendments
from trialboot.core.facts import Unknown
from trialboot.core.verdict import Answer, Check, Outcome, Verdict
from trialboot.verdictreport import contract_lines, verdict_lines

ROLES = Check(name="roles", answer=Answer.FAIL, reasons=("cil_x is missing",), notes=("new y",))
RULES = Check(name="rules", answer=Answer.PASS)
PODS = Check(name="pods", answer=Answer.NO_VERDICT, reasons=("links: EPERM",))


def test_each_check_is_told_with_its_answer_reasons_and_notes() -> None:
    verdict = Verdict(
        outcome=Outcome.WORSE,
        reasons=("cil_x is missing",),
        checks=(ROLES, RULES, PODS),
        evidence=("module vxlan was loaded and is not",),
    )
    assert verdict_lines(verdict) == [
        "worse",
        "  roles       FAIL",
        "    - cil_x is missing",
        "    note: new y",
        "  rules       pass",
        "  pods        not known",
        "    - links: EPERM",
        "  evidence: module vxlan was loaded and is not",
    ]


def test_a_reason_that_is_no_checks_own_stands_on_top() -> None:
    verdict = Verdict(
        outcome=Outcome.UNSURE, reasons=("not the same long enough",), checks=(RULES,)
    )
    assert verdict_lines(verdict)[:2] == ["unsure", "  - not the same long enough"]


def test_a_contract_is_told_line_by_line_with_what_the_operator_says_of_each() -> None:
    said = Amendments(
        pin=("role: cgroup:root|*",), ignore=("remote routes: *",), add=("link: wg0",)
    )
    assert contract_lines(contract(), said) == [
        "learned 2026-01-01T00:00:00Z in boot boot-0, kernel 6.1-old",
        "CNI: no configuration seen",
        "role: cgroup:root|cgroup|inet4_connect|cil_sock4_connect  (pinned)",
        "role: dev:eth0|skb|ingress|cil_from_netdev",
        "pods: lxc*|skb|ingress|cil_from_container: on 5",
        "link: eth0",
        "route: default via 10.0.0.1 dev eth0 table 254",
        "remote routes: IPv4 protocol 12: 1  (ignored)",
        "rule: from all fwmark 0x200/0xf00 lookup 2004",
        "sysctl: net.ipv4.ip_forward = 1",
        "link: wg0  (added)",
    ]


def test_what_was_not_learned_or_cannot_be_read_is_said() -> None:
    assert contract_lines(None, Amendments())[0].startswith("Nothing was learned yet")
    told = contract_lines(Unknown("contracts.json: not JSON"), Amendments())
    assert told[0] == "The contract cannot be read: contracts.json: not JSON."
    assert "--forget" in told[1]
