"""`sonograph render` and `sonograph doctor`: manifests for a cluster, written and examined, and what runs of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import kuberay
from sonograph.draw import printable

if TYPE_CHECKING:
    from kuberay.doctor.manifest import Finding

PROFILES = sorted(file.stem for file in (Path(kuberay.__file__).parent / "profiles").glob("*.yaml"))
MANIFESTS = Path("kuberay/manifests")
console = Console(highlight=False, soft_wrap=True)


def render(
    profile: Annotated[str, typer.Argument(help=f"{', '.join(PROFILES)}; without it every one.")] = "",
    values: Annotated[
        Path | None, typer.Option(help="A YAML file of this installation's values, over the profile's: kuberay/README.md.")
    ] = None,
    print_values: Annotated[
        bool, typer.Option("--print-values", help="Print all values with their meaning, and write nothing.")
    ] = False,
    registry: Annotated[str, typer.Option(help="Registry and folder of the images: registry/folder.")] = "",
    digests: Annotated[Path | None, typer.Option(help="The file that `docker buildx bake --metadata-file` wrote.")] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Shares of two RayServices in percent, `stable=80,candidate=20`: renders the second, and the HTTPRoute to both."
        ),
    ] = "",
    candidate_tag: Annotated[str, typer.Option(help="Tag of the candidate's images; by default this release's.")] = "",
    candidate_digests: Annotated[
        Path | None, typer.Option(help="As --digests, of the candidate's images; by default the same.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the manifests, one below it for each profile.")] = MANIFESTS,
) -> None:
    """Write a profile's manifests from kuberay/profiles; in this repository also graphs/local.yaml and other rendered files.

    OpenTelemetry's variables (OTEL_EXPORTER_OTLP_ENDPOINT and others) become the settings of tracing.
    """
    from kuberay import render as rendering
    from kuberay import values_file
    from kuberay.images import Images
    from kuberay.images import digests as read
    from kuberay.manifest.route import Split, parse_shares
    from kuberay.profiles import OTLP_FILES
    from kuberay.profiles import PROFILES as KNOWN
    from kuberay.versions import TAG
    from sonograph import otel

    if profile and profile not in KNOWN:
        raise typer.BadParameter(f"there is no {profile}, only {', '.join(KNOWN)}", param_hint="PROFILE")
    content = _parsed(values_file.read, values, "--values") if values else {}
    names = [profile] if profile else list(KNOWN)
    chosen = [_parsed(lambda one: values_file.applied(content, one), KNOWN[name], "--values") for name in names]
    if print_values:
        if len(chosen) > 1:
            raise typer.BadParameter(f"name one: {', '.join(KNOWN)}", param_hint="PROFILE")
        console.print(values_file.printed(chosen[0]), markup=False, end="")
        return
    for option, value in {"--candidate-tag": candidate_tag, "--candidate-digests": candidate_digests}.items():
        if value and not split:
            raise typer.BadParameter("it is for two RayServices: give --split stable=80,candidate=20 too", param_hint=option)
    built = read(digests) if digests else {}
    shares = _parsed(parse_shares, split, "--split") if split else {}
    try:
        tracing, unread = otel.tracing(), otel.not_read()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="the environment") from error
    own = out.resolve() == rendering.ROOT / MANIFESTS
    for one in chosen:
        images = Images(registry or one.values.registry, {**one.values.digests, **built})
        of_candidate = {**images.digests, **(read(candidate_digests) if candidate_digests else {})}
        routed = Split(shares, Images(images.registry, of_candidate, candidate_tag or TAG)) if shares else None
        rendered = rendering.manifests(one, images, routed, tracing, values.name if values else "")
        files = {out / one.name / file: text for file, text in rendered.items()}
        for path, text in (files | (rendering.shared() if own else {})).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for stale in set((out / one.name).rglob("*.yaml")) - set(files) if own else ():
            stale.unlink()
        console.print(f"{out / one.name}: {len(files)} files")
    for variable, (setting, entry) in OTLP_FILES.items():
        if setting in tracing:
            name = Path(entry).name
            secrets = " and ".join(dict.fromkeys(one.keys_secret for one in chosen))
            console.print(f"{variable} is in none of them: put its content into the Secret {secrets} as {name}.")
    if unread:
        console.print(unread, soft_wrap=True)


def _parsed[Given, Parsed](parse: Callable[[Given], Parsed], given: Given, option: str) -> Parsed:
    try:
        return parse(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Manifests, or folders of them, whose files belong together; - for standard input."),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Examine the RayServices of a cluster instead, by the user's kubectl. It changes nothing."),
    ] = False,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="With --live: the RayServices' namespace; by default sonograph.")
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
    findings = _live(namespace, context) if live else _examined(paths or [])
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
    from kuberay.profiles import NAME

    try:
        return [finding for one in cluster.read(namespace or NAME, context) for finding in live.diagnose(one)]
    except cluster.Unreachable as error:
        raise _ended(error, 2) from error


def _ended(error: Exception, status: int) -> typer.Exit:
    """Print why, and return what ends the command."""
    Console(stderr=True, highlight=False).print(f"sonograph: {printable(str(error))}", soft_wrap=True, markup=False)
    return typer.Exit(status)
