"""The repository's laws, over its syntax trees and files: design decisions that no single test would miss."""

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.model_spec import specs
from graphs.core.graph import Graph
from graphs.ingress import app, deployed, load
from graphs.settings import GRAPHS, Settings
from kuberay.profiles import PROFILES

ROOT = Path(__file__).parents[2]
PACKAGES = ("deployments", "graphs", "kuberay", "sonograph", "training", "testing")
SERVED = ("deployments", "graphs", "kuberay", "sonograph")
"""In the wheel, each may import those before it."""
MODELS = sorted(path.parent.name for path in (ROOT / "deployments").glob("*/spec.py"))
IN_TRITON = sorted(path.parent.name for path in (ROOT / "deployments").glob("*/engine.py"))
"""The models that run in Triton: all but a stub."""
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}
DOORS = ("spec", "types", "settings")
"""The modules of a model that others may import; its Serve class is named in its spec."""
WEB = {"fastapi", "starlette", "uvicorn"}
HEAVY = {"torch", "diffusers", "transformers", "whisper", "ctranslate2", "tritonserver", "PIL", "safetensors"}


def imports(module: str, top_level: bool = False) -> set[str]:
    """The modules that `module` imports, by full name, of packages also the submodules; `top_level`: when it is imported itself."""
    found: set[str] = set()
    for node in _statements(TREES[module]) if top_level else ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: name the whole path"
            submodules = {f"{node.module}.{name.name}" for name in node.names} & set(TREES)
            found |= submodules or {str(node.module)}
    return found


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when the module is imported, of those that can hold imports; not those under TYPE_CHECKING."""
    return [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]


def ours(module: str, top_level: bool = False) -> set[str]:
    return {name for name in imports(module, top_level) if name.split(".")[0] in PACKAGES}


def model_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "deployments" and len(parts) > 1 and parts[1] in MODELS else None


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", [module for module in TREES if module.split(".")[0] in SERVED])
def test_imports_point_one_way(module: str) -> None:
    package = module.split(".")[0]
    for name in ours(module):
        other = name.split(".")[0]
        assert other in SERVED, f"{module} serves, and imports {name}, which the wheel does not have"
        assert SERVED.index(other) <= SERVED.index(package), f"{module} imports {name}: packages import {' <- '.join(SERVED)}"
        if package == "deployments":
            assert model_of(name) in (None, model_of(module)), f"{module}: one model imports another: {name}"
        elif model_of(name):
            assert name.split(".")[-1] in DOORS, f"{module} goes past a model's {', '.join(DOORS)}: {name}"
        if module.startswith(("graphs.core", "graphs.audio", "graphs.rollouts", "graphs.serve")):
            assert not name.startswith("graphs.http"), f"{module} stands on the HTTP edge: {name}"
        if module.startswith("graphs.http"):
            assert not model_of(name), f"{module}: the edge knows no model by name: {name}"
            assert name.split(".")[-1] not in GRAPHS, f"{module}: the edge knows no graph by name: {name}"
        if package == "kuberay" and other == "graphs":
            allowed = ("graphs.core.metrics", "graphs.serve.application", "graphs.serve.autoscaler", "graphs.settings")
            assert name in allowed, f"{module} imports {name}: of graphs, manifests know {', '.join(allowed)}"


def test_no_import_goes_in_a_circle() -> None:
    graph = {module: {name for name in ours(module, top_level=True) if name in TREES} - {module} for module in TREES}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "module",
    [module for module in TREES if module.startswith(("graphs.core", "graphs.audio", "graphs.rollouts", "graphs.serve"))],
)
def test_the_core_knows_no_web_framework(module: str) -> None:
    assert not roots(imports(module)) & WEB, f"{module} belongs to graphs/http, or does without"


def test_rays_private_api_is_imported_in_one_folder() -> None:
    def private(module: str) -> set[str]:
        names = {
            f"{node.module}.{name.name}"
            for node in ast.walk(TREES[module])
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "ray"
            for name in node.names
        }
        return {name for name in names if any(part.startswith("_") for part in name.split("."))}

    assert {module for module in TREES if private(module)} <= {module for module in TREES if module.startswith("graphs.serve.")}


def test_no_attribute_of_a_package_has_a_submodules_name() -> None:
    """Once the submodule is imported it takes the attribute's place, in that process alone."""
    for module, path in FILES.items():
        if path.name != "__init__.py":
            continue
        submodules = {other.removeprefix(f"{module}.").split(".")[0] for other in TREES if other.startswith(f"{module}.")}
        defined: set[str] = set()
        for node in ast.walk(TREES[module]):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    defined.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.ImportFrom():
                    defined |= {alias.asname or alias.name for alias in node.names if node.module != module}
                case ast.Constant(value=str(text)) if "__all__" in ast.unparse(TREES[module]):
                    defined.add(text)
        assert not defined & submodules, (
            f"{module} has an attribute and a module of one name: rename one of {defined & submodules}"
        )
        assert "__getattr__" not in defined, f"{module} makes attributes when they are asked for: name them"


@pytest.mark.parametrize("model", IN_TRITON)
def test_an_engine_knows_neither_triton_nor_ray(model: str) -> None:
    engine = f"deployments.{model}.engine"
    assert not imports(engine) & {"ray", "tritonserver", "triton_python_backend_utils", "pydantic"}
    shared = {name for name in ours(engine) if model_of(name) is None and not name.startswith("deployments.roles")}
    allowed = {"compute_time", "errors", "paths", "time_left", "torch_runtime"}
    assert shared <= {f"deployments.{name}" for name in allowed}


@pytest.mark.parametrize("model", IN_TRITON)
def test_a_stub_never_imports_ray_or_pydantic(model: str) -> None:
    (stub,) = (name for name in TREES if name.startswith(f"deployments.{model}.repository") and name.endswith(".model"))
    reached, waiting = set[str](), {stub}
    while waiting:
        module = waiting.pop()
        reached |= imports(module)
        packages = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)} & set(TREES)
        waiting |= ({name for name in ours(module) if name in TREES} | packages) - reached
        reached |= packages
    assert not roots(reached) & {"ray", "pydantic", "tritonserver", *WEB}, f"{stub} loads them in Triton's process"
    assert not {name for name in reached if name.endswith((".deployment", ".settings", ".spec"))}


def test_only_the_seam_imports_tritonserver() -> None:
    assert {module for module in TREES if "tritonserver" in roots(imports(module))} <= {"deployments.triton.server"}
    assert {module for module in TREES if "triton_python_backend_utils" in imports(module)} == {"deployments.triton.stub"}


def test_only_the_seam_reads_the_environment() -> None:
    def reads(tree: ast.Module) -> bool:
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        return bool(names & {"environ", "environb", "getenv", "putenv"})

    served = [module for module in TREES if module.split(".")[0] in SERVED]
    client = ["sonograph.keys", "sonograph.otel"]  # its user's key; OpenTelemetry's variables, once
    library = "deployments.whisper.backends.ctranslate2"  # oneDNN's instructions can be chosen by a variable only
    assert [module for module in served if reads(TREES[module])] == ["deployments.triton.server", library, *client]


def test_of_opentelemetry_only_its_protobuf_is_imported() -> None:
    """Its SDK, exporters and API read variables of their own, in every process that imports them."""
    served = [module for module in TREES if module.split(".")[0] in SERVED]
    found = {name for module in served for name in imports(module) if name.startswith("opentelemetry")}
    assert found
    assert not [name for name in found if not name.startswith("opentelemetry.proto.")], (
        "build OTLP's messages in graphs.tracing.encode"
    )


def test_a_module_with_a_builder_does_not_defer_its_annotations() -> None:
    for module in TREES:
        if module.startswith("graphs"):
            assert "__future__" not in imports(module), f"{module}: Serve would hand its builder a dict"


@pytest.mark.parametrize("module", TREES)
def test_a_module_has_a_docstring_and_is_not_long(module: str) -> None:
    text = FILES[module].read_text(encoding="utf-8")
    assert ast.get_docstring(TREES[module]) or not text, f"{module} has no docstring"
    if module.split(".")[0] in SERVED:
        assert text.count("\n") <= 300, f"{module} has more than 300 lines: split it by meaning"


def loaded_by(program: str, names: set[str]) -> list[str]:
    """Return those of `names` that a new Python has loaded after `program`."""
    program = f"import json, sys; {program}; print(json.dumps([name for name in {sorted(names)} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return list(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("import graphs.voice_to_image", HEAVY),
        ("import graphs.core.stage, graphs.core.graph, graphs.core.readiness, graphs.core.metrics", WEB | HEAVY | {"ray.serve"}),
        ("import graphs.rollouts.compare, graphs.rollouts.judge, graphs.rollouts.store", WEB | HEAVY | {"ray"}),
        ("from deployments.model_spec import specs; specs()", WEB | HEAVY | {"ray"}),
        *((f"import deployments.{model}.settings", {"ray", *HEAVY}) for model in IN_TRITON),
    ],
)
def test_a_module_loads_no_more_than_it_needs(program: str, names: set[str]) -> None:
    assert loaded_by(program, names) == []


@pytest.mark.parametrize("model", MODELS)
def test_one_word_names_all_of_a_model(model: str) -> None:
    spec = specs()[model]
    assert re.fullmatch("[a-z][a-z0-9]*", model)
    assert spec.name == model
    assert spec.settings.__module__.startswith(f"deployments.{model}.")
    assert spec.deployment.startswith(f"deployments.{model}.")
    assert Settings.model_fields[model].annotation is spec.settings


@pytest.mark.parametrize("model", IN_TRITON)
def test_a_model_in_triton_has_its_repository_its_extra_and_its_worker_group(model: str) -> None:
    folder = ROOT / "deployments" / model
    for path in ("deployment.py", "engine.py", "settings.py", "requirements.txt", "spec.py", "types.py"):
        assert (folder / path).is_file(), f"{model} has no {path}"
    assert [path.name for path in (folder / "repository").iterdir()] == [model]
    assert (folder / "repository" / model / "1" / "model.py").is_file()
    assert re.search(rf'^name: "{model}"$', config(model), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert extras[model] == {"file": [f"deployments/{model}/requirements.txt"]}, f"pyproject.toml has no extra {model}"
    if specs()[model] in deployed(Settings()):
        assert all(model in profile.group_of(model).resources for profile in PROFILES.values())


@pytest.mark.parametrize("model", IN_TRITON)
def test_a_model_names_the_tensors_of_its_config(model: str) -> None:
    docstring = ast.get_docstring(TREES[f"deployments.{model}.repository.{model}.1.model"]) or ""
    stated = docstring.split("\n\n")[0].split("->")
    assert len(stated) == 2
    for direction, text in zip(("input", "output"), stated, strict=True):
        (block,) = re.findall(rf"^{direction} \[(.*?)^\]", config(model), re.MULTILINE | re.DOTALL)
        tensors = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \]', block)
        assert len(tensors) == block.count("name:")
        kinds = {"STRING": "BYTES"}
        types = {kinds.get(kind, kind) for _, kind, _ in tensors}
        assert set(re.findall(r"\b[A-Z][A-Z_]*[A-Z0-9]+\b", text)) - types - {"UTF"} == {name for name, _, _ in tensors}
        for name, kind, shape in tensors:
            rest = re.split(rf"\b{name}\b", text, maxsplit=1)[1]
            found = re.search(r"\b(BYTES|[A-Z]+\d+) \[([^\]]+)\]", rest)
            assert found, f"{name} has no type and shape"
            assert found[1] == kinds.get(kind, kind), name
            for one, other in zip(shape.split(", "), found[2].split(", "), strict=True):
                assert one == other or (one == "-1" and not other.isdecimal()), f"{name}: {shape} is not {found[2]}"


def config(model: str) -> str:
    return (ROOT / "deployments" / model / "repository" / model / "config.pbtxt").read_text()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_is_one_file_with_one_graph(name: str) -> None:
    graph = load(name)
    assert graph.__doc__ or ast.get_docstring(TREES[f"graphs.{name}"])
    assert graph.path.startswith("/")
    assert not graph.formats or graph.encoded is not Graph.encoded, f"{name} has formats, and nothing encodes its answer"
    assert graph.stages, f"{name} declares no stage: `transcribe = Stage[TranscribeRequest, Transcript].of('speech_to_text')`"


def deployments_of(application: Any) -> set[str]:
    """The names of the deployments that an application is made of."""
    bound = application._bound_deployment
    arguments = (*bound.init_args, *bound.init_kwargs.values())
    below = (deployments_of(one) for one in arguments if type(one) is type(application))
    return {bound.name}.union(*below)


def test_the_config_for_one_machine_fits_the_graphs() -> None:
    (application,) = yaml.safe_load((ROOT / "graphs" / "local.yaml").read_text())["applications"]
    assert application["import_path"] == "graphs.voice_to_image:app"
    built = app(Settings.model_validate(application["args"]))
    assert {deployment["name"] for deployment in application["deployments"]} == deployments_of(built)
