"""`sonograph render` and `sonograph doctor`: manifests for a cluster, written and examined, and what runs of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kuberay.profiles import NAME, PROFILES
from sonograph.draw import printable

if TYPE_CHECKING:
    from kuberay.doctor.manifest import Finding

MANIFESTS = Path("kuberay/manifests")
console = Console(highlight=False, soft_wrap=True)


def render(
    profile: Annotated[str, typer.Argument(help=f"{', '.join(PROFILES)}; without it every one.")] = "",
    values: Annotated[
        Path | None, typer.Option(help="A YAML file of this installation's names, sizes and settings: kuberay/README.md.")
    ] = None,
    registry: Annotated[str, typer.Option(help="Registry and folder of the images: registry/folder.")] = "",
    digests: Annotated[Path | None, typer.Option(help="The file that `docker buildx bake --metadata-file` wrote.")] = None,
    dns_cidr: Annotated[
        list[str] | None, typer.Option(help="A DNS resolver that the policies do not name: address or range. Repeatable.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Shares of two RayServices in percent, `stable=80,candidate=20`: renders the second, and the HTTPRoute."
        ),
    ] = "",
    gateway: Annotated[str, typer.Option(help="The Gateway of the HTTPRoute: [NAMESPACE/]NAME; by default sonograph.")] = "",
    hostname: Annotated[
        list[str] | None, typer.Option(help="A host that the HTTPRoute is for; by default all. Repeatable.")
    ] = None,
    candidate_tag: Annotated[str, typer.Option(help="Tag of the candidate's images; by default this release's.")] = "",
    candidate_digests: Annotated[
        Path | None, typer.Option(help="As --digests, of the candidate's images; by default the same.")
    ] = None,
    monitoring_label: Annotated[
        list[str] | None,
        typer.Option(
            help="A label by which the cluster's Prometheus selects PodMonitors and rules: NAME=VALUE; by default "
            "release=kube-prometheus-stack. Repeatable."
        ),
    ] = None,
    runbooks: Annotated[str, typer.Option(help="Address of docs/operations.md, for the links of the alerts.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of the manifests, one below it for each profile.")] = MANIFESTS,
) -> None:
    """Write a profile's manifests from kuberay/profiles.py; in this repository also graphs/local.yaml and other rendered files.

    OpenTelemetry's variables (OTEL_EXPORTER_OTLP_ENDPOINT and others) become the settings of tracing.
    """
    from kuberay import render as rendering
    from kuberay.images import REGISTRY, Images
    from kuberay.images import digests as read
    from kuberay.manifest.monitoring import RELEASE, RUNBOOKS, Monitoring, parse_label
    from kuberay.manifest.network import resolver
    from kuberay.manifest.route import Split, parse_gateway, parse_hostname, parse_shares
    from kuberay.profiles import KEYS_SECRET, OTLP_FILES
    from kuberay.values import Values
    from kuberay.values import read as read_values
    from kuberay.versions import TAG
    from sonograph import otel

    if profile and profile not in PROFILES:
        raise typer.BadParameter(f"there is no {profile}, only {', '.join(PROFILES)}", param_hint="PROFILE")
    resolvers = [_parsed(resolver, cidr, "--dns-cidr") for cidr in dns_cidr or ()]
    changes = _parsed(read_values, values, "--values") if values else Values()
    images = Images(registry or changes.registry or REGISTRY, read(digests) if digests else {})
    of_a_split = {
        "--gateway": gateway,
        "--hostname": hostname,
        "--candidate-tag": candidate_tag,
        "--candidate-digests": candidate_digests,
    }
    for option, value in of_a_split.items():
        if value and not split:
            raise typer.BadParameter("it is for two RayServices: give --split stable=80,candidate=20 too", param_hint=option)
    routed = None
    if split:
        routed = Split(
            _parsed(parse_shares, split, "--split"),
            Images(images.registry, read(candidate_digests) if candidate_digests else images.digests, candidate_tag or TAG),
            _parsed(parse_gateway, gateway or NAME, "--gateway"),
            tuple(_parsed(parse_hostname, one, "--hostname") for one in hostname or ()),
        )
    labels = dict(_parsed(parse_label, label, "--monitoring-label") for label in monitoring_label or ())
    monitored = Monitoring(labels or RELEASE, runbooks or RUNBOOKS)
    try:
        tracing, unread = otel.tracing(), otel.not_read()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="the environment") from error
    own = out.resolve() == rendering.ROOT / MANIFESTS
    for name in [profile] if profile else PROFILES:
        applied = _parsed(changes.applied_to, PROFILES[name], "--values")
        rendered = rendering.manifests(applied, images, resolvers, routed, monitored, tracing, values.name if values else "")
        files = {out / name / file: text for file, text in rendered.items()}
        for path, text in (files | (rendering.shared() if own else {})).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for stale in set((out / name).glob("*.yaml")) - set(files) if own else ():
            stale.unlink()
        console.print(f"{out / name}: {len(files)} files")
    for variable, (setting, entry) in OTLP_FILES.items():
        if setting in tracing:
            name = Path(entry).name
            console.print(f"{variable} is in none of them: put its content into the Secret {KEYS_SECRET} as {name}.")
    if unread:
        console.print(unread, soft_wrap=True)


def _parsed[Given, Parsed](parse: Callable[[Given], Parsed], given: Given, option: str) -> Parsed:
    try:
        return parse(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def doctor(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Manifests, or folders of them; the files of one folder belong together.")
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Examine the RayServices of a cluster instead, by the user's kubectl. It changes nothing."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help=f"With --live: the RayServices' namespace; by default {NAME}.")
    ] = "",
    context: Annotated[str, typer.Option(help="With --live: the context of kubectl; by default its current one.")] = "",
) -> None:
    """Report errors in these manifests before they are applied. Needs no network; exits with 1 on any error.

    It imports the app that a manifest names. With --live: what KubeRay has not applied of a running RayService, with the command that
    does, and what is not well; exits with 2 where it cannot be read.
    """
    if bool(paths) == live:
        raise typer.BadParameter("name manifests, or give --live, and not both", param_hint="PATHS")
    for option, value in {"--namespace": namespace, "--context": context}.items():
        if value and not live:
            raise typer.BadParameter("it is for a running RayService: give --live too", param_hint=option)
    findings = _live(namespace or NAME, context) if live else _examined(paths or [])
    for finding in findings:
        console.print(printable(str(finding)) if live else str(finding), markup=False)
        for command in finding.commands:
            console.print(f"  {printable(command)}", markup=False)
    errors = sum(not finding.warning for finding in findings)
    console.print(f"{errors or 'No'} error{'s' if errors != 1 else ''}, {len(findings) - errors} warnings.")
    if errors:
        raise typer.Exit(1)


def _examined(paths: list[Path]) -> "list[Finding]":
    from kuberay.doctor.examine import examine
    from kuberay.doctor.manifest import Unreadable

    try:
        return examine(paths)
    except Unreadable as error:
        raise _ended(error, 1) from error


def _live(namespace: str, context: str) -> "list[Finding]":
    from kuberay.doctor import cluster, live

    try:
        return [finding for one in cluster.read(namespace, context) for finding in live.diagnose(one)]
    except cluster.Unreachable as error:
        raise _ended(error, 2) from error


def _ended(error: Exception, status: int) -> typer.Exit:
    """Print why, and return what ends the command."""
    Console(stderr=True, highlight=False).print(f"sonograph: {printable(str(error))}", soft_wrap=True, markup=False)
    return typer.Exit(status)
