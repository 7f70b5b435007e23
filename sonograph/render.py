"""`sonograph render`: manifests for a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import kuberay

PROFILES = sorted(file.stem for file in (Path(kuberay.__file__).parent / "profiles").glob("*.yaml"))
MANIFESTS = Path("kuberay/manifests")
console = Console(highlight=False, soft_wrap=True)


def render(
    profile: Annotated[str, typer.Argument(help=f"{', '.join(PROFILES)}; without it every one.")] = "",
    values: Annotated[
        Path | None,
        typer.Option(help="A YAML file of this installation's values, over the profile's: docs/kubernetes/values.md."),
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
    """Write the manifests of a profile in kuberay/profiles; in this repository also graphs/local.yaml and other rendered files.

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
