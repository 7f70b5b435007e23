"""Rules: the preStop hook `sonograph drain` can do its work, and connections and requests end in time."""

from collections.abc import Iterator

from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import SERVE_PORT, Group, Service
from kuberay.doctor.rules.http_options import options
from kuberay.doctor.rules.times import PRE_STOP, drain_words, is_in_a_shell, longest_deadline_s, option

NUMBERS = ("--settle-s", "--most-s", "--idle-s", "--port", "--parent")
ADDRESSES = ("$RAY_ADDRESS", "${RAY_ADDRESS}")
SHORTEST_KEPT_S = 5
LONGEST_AFTER_S = 600.0
"""Seconds beyond the deadline for which a request without an answer may hold a connection."""


@rule(
    "SG603",
    "the drain of a pod asks its own head and Serve",
    "Write the hook as `sonograph render` does.",
)
def a_drain_asks_its_own_head_and_serve(service: Service) -> Iterator[Finding]:
    own = a_drain_asks_its_own_head_and_serve
    for group in service.groups:
        words = drain_words(group)
        for sentence in _wrong(group, words, service.port) if words is not None else ():
            yield service.finding(own, service.field(group, PRE_STOP), sentence, WARNING)


def _wrong(group: Group, words: list[str], listens: int) -> Iterator[str]:
    ends = "the hook fails, and the pod ends at once, with its requests"
    known = {word: option(words, word) for word in NUMBERS if option(words, word) is not None}
    unquoted = [word.strip("\"'") for word in words]
    address = next((word for word in unquoted if not word.startswith("-") and word not in known.values()), None)
    if address is None:
        yield f'`sonograph drain` has no address of the head: {ends}. Write "$RAY_ADDRESS" behind drain'
    elif address.startswith("$") and not is_in_a_shell(group):
        yield f"only a shell reads {address}, and this command has none: {ends}. Write it as [sh, -c, 'exec sonograph drain ...']"
    elif address.startswith("$") and address not in ADDRESSES:
        yield f"{address} is no variable of KubeRay's, which sets RAY_ADDRESS: {ends}"
    elif not address.startswith("$"):
        name, _, number = address.rpartition(":")
        if not name or not number.isdecimal():
            yield f'{address} is no address, HOST:PORT: {ends}. Write "$RAY_ADDRESS"'
        else:
            yield f'{address} is one address for every cluster, and an upgrade has two: take "$RAY_ADDRESS"'
    for name, text in known.items():
        if text is not None and not _is_number(text.strip("\"'")):
            yield f"{name} is {text or 'empty'}, and no number: {ends}"
    asked = known.get("--port") or str(SERVE_PORT)
    if _is_number(asked.strip("\"'")) and float(asked.strip("\"'")) != listens:
        yield (
            f"it asks the port {asked} for the pod's requests, and Serve listens on {listens} (http_options.port): where the whole "
            "cluster is deleted it would take the pod for idle, and cut its requests"
        )
    unknown = [word.partition("=")[0] for word in unquoted if word.startswith("--") and word.partition("=")[0] not in NUMBERS]
    if unknown:
        yield f"`sonograph drain` knows no {', '.join(unknown)}: {ends}"


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


@rule(
    "SG604",
    "a request without an answer, and a connection without a request, end in time",
    "State `request_timeout_s` a minute above the deadline, and leave `keep_alive_timeout_s` out.",
)
def requests_and_connections_end_in_time(service: Service) -> Iterator[Finding]:
    own, deadline_s = requests_and_connections_end_in_time, longest_deadline_s(service)
    timeout_s, kept_s = options(service).get("request_timeout_s"), options(service).get("keep_alive_timeout_s")
    if deadline_s and not timeout_s:
        sentence = "without it a request whose ingress has died holds its client forever: state it, a minute above the deadline"
        yield service.finding(own, f"{SERVE_CONFIG}: http_options.request_timeout_s", sentence, WARNING)
    elif deadline_s and isinstance(timeout_s, int | float) and timeout_s > deadline_s + LONGEST_AFTER_S:
        sentence = (
            f"a request whose ingress has died would hold its client for {timeout_s:g} s, and the deadline is {deadline_s:g} s: a "
            "minute above that is enough"
        )
        yield service.finding(own, f"{SERVE_CONFIG}: http_options.request_timeout_s", sentence, WARNING)
    if isinstance(kept_s, int | float) and kept_s < SHORTEST_KEPT_S:
        sentence = (
            f"Serve would close a connection {kept_s:g} s after its last request, often while the next one is on its way: clients and "
            "gateways that reuse connections get errors"
        )
        yield service.finding(own, f"{SERVE_CONFIG}: http_options.keep_alive_timeout_s", sentence, WARNING)
