"""Rules: there is an app, its import path names one that Serve can start, and its pods have a Ray that can."""

import inspect
from collections.abc import Iterator

from kuberay import app
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import ERROR, NOTE, WARNING, Finding, rule
from kuberay.doctor.manifest import Service


@rule(
    "SG210",
    "the config has an app",
    "List it in `applications`: its name, route prefix, import path, args and deployments.",
)
def there_is_an_app(service: Service) -> Iterator[Finding]:
    if not service.applications:
        sentence = "it lists no app: Serve would start nothing, and end what runs, so nobody is served"
        yield service.finding(there_is_an_app, f"{SERVE_CONFIG}: applications", sentence)


@rule(
    "SG211",
    "the import path names a Serve app",
    "Name the app, or the function that builds it: `graphs.voice_to_image:app`.",
)
def the_import_path_names_a_serve_app(service: Service) -> Iterator[Finding]:
    from ray.serve import Application, Deployment

    for number, application in enumerate(service.applications):
        try:
            found = app.load(application["import_path"])
        except Exception:  # a rule of its own reports it
            continue
        sentence = ""
        if isinstance(found, Deployment):
            sentence = f"{application['import_path']} is a deployment that is not bound, and Serve takes an app: name {found.name}.bind()"
        elif inspect.isfunction(found):
            if len(inspect.signature(found).parameters) != 1:
                sentence = (
                    f"{application['import_path']} is a function that takes not one argument, the args, so Serve cannot build it"
                )
        elif not isinstance(found, Application):
            sentence = f"{application['import_path']} is {_what(found)}, and no Serve app nor a function that builds one: the deploy fails"
        elif application.get("args"):
            sentence = (
                f"{application['import_path']} is an app that is built already, and Serve refuses args for it: name a function"
            )
        if sentence:
            field = f"{SERVE_CONFIG}: applications[{number}].import_path"
            yield service.finding(the_import_path_names_a_serve_app, field, sentence)


def _what(found: object) -> str:
    if inspect.isbuiltin(found):
        return "a function of Python itself"
    if inspect.ismodule(found):
        return "a module"
    return f"a class, {found.__name__}" if isinstance(found, type) else f"a value of the type {type(found).__name__}"


@rule(
    "SG212",
    "Serve takes the route prefix of an app",
    "Begin it with /, and end it without.",
)
def serve_takes_the_route_prefix(service: Service) -> Iterator[Finding]:
    own = serve_takes_the_route_prefix
    prefixes = [application.get("route_prefix", "/") for application in service.applications]
    for number, prefix in enumerate(prefixes):
        sentence, severity = "", ERROR
        if prefix is None:
            severity = WARNING if any(one is not None for one in prefixes) else ERROR
            sentence = "without it no request over HTTP reaches the app: give it one, such as /"
        elif not str(prefix).startswith("/"):
            sentence = f"Serve refuses {prefix or 'an empty one'}: it has to begin with /"
        elif "{" in prefix or "}" in prefix:
            sentence = f"Serve refuses {prefix}: it takes no braces"
        elif prefix != "/" and prefix.endswith("/"):
            sentence = f"Serve refuses {prefix}: it may not end with /"
        if sentence:
            yield service.finding(own, f"{SERVE_CONFIG}: applications[{number}].route_prefix", sentence, severity)


@rule(
    "SG213",
    "this project's app is at the root",
    "Use `route_prefix: /`, and a host name of its own for it.",
)
def the_app_is_at_the_root(service: Service) -> Iterator[Finding]:
    """`sonograph drain` asks /healthz, and takes an answer of 404 for a pod without requests: it ends them."""
    for number, application in enumerate(service.applications):
        prefix = application.get("route_prefix", "/")
        if str(application["import_path"]).startswith("graphs.") and prefix not in ("/", None):
            sentence = (
                f"at {prefix} nothing answers /healthz, which `sonograph drain` asks for the requests of a pod: where the whole "
                "cluster is deleted it would cut them. Clients and the paths of a route need the prefix too: take /"
            )
            field = f"{SERVE_CONFIG}: applications[{number}].route_prefix"
            yield service.finding(the_app_is_at_the_root, field, sentence, WARNING)


@rule(
    "SG214",
    "an app's code is where Serve can read it",
    "Use a URL of an archive, and Serve fetches it on each node.",
)
def a_working_dir_can_be_fetched(service: Service) -> Iterator[Finding]:
    """Note for a folder on the node: the doctor does not see what the image has."""
    for number, application in enumerate(service.applications):
        environment = application.get("runtime_env") or {}
        where = str(environment.get("working_dir") or "") if isinstance(environment, dict) else ""
        if where.startswith("local://"):
            sentence = f"{where} has to be in the image of every pod, which the doctor cannot see"
            field = f"{SERVE_CONFIG}: applications[{number}].runtime_env.working_dir"
            yield service.finding(a_working_dir_can_be_fetched, field, sentence, NOTE)
