"""The repository's laws, over its syntax trees and files: design decisions that no single test would miss."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphs.settings import VoiceToImageSettings
from graphs.voice_to_image import app
from kuberay.profiles import PROFILES

ROOT = Path(__file__).parents[2]
PACKAGES = ("graphs", "deployments", "kuberay", "sonograph", "training")
ROOMS = sorted(path.parent.name for path in (ROOT / "deployments").glob("*/deployment.py"))
SHARED = {"deployments", "deployments.errors", "deployments.settings", "deployments.time_left"}
"""What anything may import, the Triton stub too."""
TREES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """The modules that `module` imports anywhere in it, by full name; of packages also the submodules taken from them."""
    found: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            submodules = {f"{node.module}.{name.name}" for name in node.names} & set(TREES)
            found |= submodules or {str(node.module)}
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] in PACKAGES}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "deployments" and len(parts) > 1 and parts[1] in ROOMS else None


def test_there_are_two_rooms() -> None:
    assert ROOMS == ["diffusion", "whisper"]


@pytest.mark.parametrize("module", TREES)
def test_imports_point_one_way(module: str) -> None:
    for name in ours(module):
        if name.startswith("kuberay"):
            assert module.startswith(("sonograph", "kuberay")), f"what serves imports what describes it: {name}"
        if module.startswith("deployments"):
            assert not name.startswith("graphs"), f"a deployment imports a graph: {name}"
            assert room_of(name) in (None, room_of(module)), f"one room imports another: {name}"
        elif room_of(name) and not module.startswith("training"):
            assert name == f"deployments.{room_of(name)}", f"a graph goes past a room's door: {name}"
        if module.startswith("graphs.http"):
            assert name.startswith(("graphs.http", "graphs.core", "graphs.audio", "graphs.serve", "deployments")), (
                f"the edge imports a graph: {name}"
            )


@pytest.mark.parametrize("room", ROOMS)
def test_an_engine_knows_neither_triton_nor_ray(room: str) -> None:
    engine = f"deployments.{room}.engine"
    assert not imports(engine) & {"ray", "tritonserver", "triton_python_backend_utils", "pydantic"}
    assert {name for name in ours(engine) if room_of(name) is None} <= {
        *SHARED,
        "deployments.torch_runtime",
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_stub_never_imports_ray_or_pydantic(room: str) -> None:
    (model,) = (name for name in TREES if name.startswith(f"deployments.{room}.repository") and name.endswith(".model"))
    reached, waiting = set[str](), {model}
    while waiting:
        module = waiting.pop()
        reached |= imports(module)
        waiting |= {name for name in ours(module) if name in TREES and room_of(name) in (None, room)} - reached
    assert not {name for name in reached if name.split(".")[0] in ("ray", "pydantic", "tritonserver", "fastapi")}
    assert {name for name in ours(model) if room_of(name) is None} == {"deployments.triton.stub"}
    assert not {name for name in ours(model) if name.endswith((".deployment", ".settings"))}


def test_only_the_seam_imports_tritonserver() -> None:
    assert [module for module in TREES if "tritonserver" in imports(module)] == ["deployments.triton.server"]


def test_nothing_that_serves_imports_the_small_models_training() -> None:
    assert "training.small_stable_diffusion.train" in TREES
    for module in TREES:
        assert module.startswith("training") or not {name for name in imports(module) if name.startswith("training")}, module


def test_only_the_seam_reads_the_environment() -> None:
    def reads(tree: ast.Module) -> bool:
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        return bool(names & {"environ", "environb", "getenv", "putenv"})

    assert [module for module, tree in TREES.items() if reads(tree)] == ["deployments.triton.server"]


def test_a_module_with_a_builder_does_not_defer_its_annotations() -> None:
    for module in TREES:
        if module.startswith("graphs"):
            assert "__future__" not in imports(module), f"{module}: Serve would hand its builder a dict"


@pytest.mark.parametrize("module", TREES)
def test_a_module_says_what_it_is_and_is_not_long(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    assert ast.get_docstring(TREES[module]) or not text
    assert text.count("\n") <= 300


def test_building_the_app_loads_no_model_library() -> None:
    heavy = ["torch", "diffusers", "transformers", "whisper", "ctranslate2", "tritonserver", "PIL", "safetensors"]
    program = f"import json, sys, graphs.voice_to_image; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


@pytest.mark.parametrize("room", ROOMS)
def test_one_word_names_all_of_a_room(room: str) -> None:
    folder = ROOT / "deployments" / room
    assert re.fullmatch("[a-z][a-z0-9]*", room)
    for path in ("__init__.py", "deployment.py", "engine.py", "settings.py", "requirements.txt"):
        assert (folder / path).is_file(), f"{room} has no {path}"
    assert [path.name for path in (folder / "repository").iterdir()] == [room]
    assert (folder / "repository" / room / "1" / "model.py").is_file()
    assert re.search(rf'^name: "{room}"$', config(room), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert extras[room] == {"file": [f"deployments/{room}/requirements.txt"]}
    assert VoiceToImageSettings.model_fields[room].annotation.__module__ == f"deployments.{room}.settings"
    assert room in deployments_of(app(VoiceToImageSettings()))
    assert (ROOT / "images" / f"{room}.Dockerfile").is_file()
    for profile in PROFILES.values():
        assert room in profile.group_of(room).resources


@pytest.mark.parametrize("room", ROOMS)
def test_a_model_says_which_tensors_its_config_names(room: str) -> None:
    docstring = ast.get_docstring(TREES[f"deployments.{room}.repository.{room}.1.model"]) or ""
    said = docstring.split("\n\n")[0].split("->")
    assert len(said) == 2
    for direction, text in zip(("input", "output"), said, strict=True):
        (block,) = re.findall(rf"^{direction} \[(.*?)^\]", config(room), re.MULTILINE | re.DOTALL)
        tensors = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \]', block)
        assert len(tensors) == block.count("name:")
        kinds = {"STRING": "BYTES"}
        types = {kinds.get(kind, kind) for _, kind, _ in tensors}
        assert set(re.findall(r"\b[A-Z][A-Z_]*[A-Z0-9]+\b", text)) - types - {"UTF"} == {name for name, _, _ in tensors}
        for name, kind, shape in tensors:
            rest = re.split(rf"\b{name}\b", text, maxsplit=1)[1]
            stated = re.search(r"\b(BYTES|[A-Z]+\d+) \[([^\]]+)\]", rest)
            assert stated, f"{name} has no type and shape"
            assert stated[1] == kinds.get(kind, kind), name
            for one, other in zip(shape.split(", "), stated[2].split(", "), strict=True):
                assert one == other or (one == "-1" and not other.isdecimal()), f"{name}: {shape} is not {stated[2]}"


def config(room: str) -> str:
    return (ROOT / "deployments" / room / "repository" / room / "config.pbtxt").read_text()


def deployments_of(application: Any) -> set[str]:
    """The names of the deployments that an application is made of."""
    bound = application._bound_deployment
    below = (deployments_of(one) for one in bound.init_args if type(one) is type(application))
    return {bound.name}.union(*below)


def test_the_config_for_one_machine_fits_the_graph() -> None:
    (application,) = yaml.safe_load((ROOT / "graphs" / "local.yaml").read_text())["applications"]
    assert application["import_path"] == "graphs.voice_to_image:app"
    built = app(VoiceToImageSettings.model_validate(application["args"]))
    assert {deployment["name"] for deployment in application["deployments"]} == deployments_of(built)
