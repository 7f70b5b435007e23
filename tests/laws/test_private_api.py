"""docs/decisions/0012-private-api.md names each file of the product that leans on another program's private parts."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("deployments", "graphs", "kuberay", "sonograph", "images")
RECORD = (ROOT / "docs" / "decisions" / "0012-private-api.md").read_text(encoding="utf-8")
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
DOCUMENTED = {"_exit"}
"""`os._exit`."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def findings(path: Path) -> Iterator[str]:
    """Each private name of another program that the module uses, and each of its attributes that the module sets.

    Python's own modules may be set: `os.environ` and `sys.modules` are made for it.
    """
    foreign = {name: module for name, module in imported(path).items() if module.split(".")[0] not in OURS}
    packages = {name for name, module in foreign.items() if module.split(".")[0] not in sys.stdlib_module_names}
    own = defined(path)
    for name, module in foreign.items():
        if any(map(private, module.split("."))):
            yield f"import {module} as {name}"
    for node in ast.walk(tree(path)):
        match node:
            case ast.Attribute(attr=name) if private(name) and name not in own:
                yield ast.unparse(node)
            case ast.keyword(arg=str(name)) | ast.Dict(keys=[*_, ast.Constant(value=str(name))]) if private(name):
                yield f"{name}="
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]):
                if private(name) and name not in own:
                    yield ast.unparse(node)
            case ast.Assign(targets=targets) if any(_holder(target) in packages for target in targets):
                yield ast.unparse(node)


def _holder(target: ast.expr) -> str:
    """The name whose attribute, or item of an attribute, is set; empty for any other target."""
    attribute = target.value if isinstance(target, ast.Subscript) else target
    return attribute.value.id if isinstance(attribute, ast.Attribute) and isinstance(attribute.value, ast.Name) else ""


def imported(path: Path) -> dict[str, str]:
    """The full name of each import, by the name that it has in the module."""
    found: dict[str, str] = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            found |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.asname or name.name.split(".")[0]: name.name for name in node.names}
    return found


def defined(path: Path) -> set[str]:
    """Names that the module, or one of ours that it imports, defines."""
    modules = {name for full in imported(path).values() for name in (full, full.rpartition(".")[0])}
    ours = {file for module in modules for file in (ROOT / f"{module.replace('.', '/')}.py",) if file.is_file()}
    return {name for file in {path, *ours} for name in _definitions(tree(file))}


@cache
def _definitions(content: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(content):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_that_uses_private_parts_is_in_the_record(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = list(findings(path))
    assert not found or f"`{name}`" in RECORD, f"{name} uses {found}: do without, or add it to docs/decisions/0012-private-api.md"


def test_the_private_names_of_ray_and_serve_are_used_in_one_folder() -> None:
    _, _, tables = RECORD.partition("\n## Ray Serve\n")
    tables, _, _ = tables.partition("\n## uvicorn\n")
    files = {ROOT / name for name in re.findall(r"^\| `([\w/]+\.py)`", tables, re.MULTILINE)}
    apart = {str(path.relative_to(ROOT)) for path in files if list(findings(path)) and path.parent != ROOT / "graphs" / "serve"}
    assert apart == {"deployments/zero.py", "sonograph/compare/cluster.py"}


def of_others(text: str) -> list[str]:
    """Private attributes of objects of other modules: of what is neither `self` nor `cls`, nor defined beside its use."""
    content = ast.parse(text)
    own = _definitions(content)
    return [
        ast.unparse(node)
        for node in ast.walk(content)
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")) and ast.unparse(node.value) != "super()"
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_private_attribute_is_used_in_its_own_module_alone(path: Path) -> None:
    """The record names the files that lean on another program; what another of our modules needs is public."""
    found = of_others(path.read_text(encoding="utf-8"))
    assert not found or f"`{path.relative_to(ROOT)}`" in RECORD, f"make it public: {found}"


def test_the_law_on_private_attributes_sees_them() -> None:
    assert of_others("def token(place): return place._token()") == ["place._token"]
    assert of_others("class Place:\n    def _token(self): ...\n\ndef token(place): return place._token()") == []
    assert of_others("class Place(Base):\n    def token(self): return self._token() or super()._token()") == []


def test_the_law_sees_each_kind() -> None:
    seen = {
        "graphs/serve/logs.py": "import ray.serve._private.logging_utils.ServeContextFilter as ServeContextFilter",
        "graphs/serve/key_values.py": "internal_kv._internal_kv_get",
        "deployments/zero.py": "counter._record",
        "graphs/serve/handles.py": "_check_exists=",
        "sonograph/compare/cluster.py": "_temp_dir=",
        "graphs/http/middleware/lingering.py": "self._unset_keepalive_if_required",
    }
    for name, finding in seen.items():
        assert finding in list(findings(ROOT / name)), name
    for name in ("graphs/serve/controller.py", "graphs/serve/bodies.py", "graphs/http/middleware/upgrade.py"):
        assert any(" = " in finding for finding in findings(ROOT / name)), f"{name} patches"


def test_binaries_are_edited_in_one_file() -> None:
    editing = [path for path in FILES if re.search(r"\b(patchelf|lief)\b", path.read_text(encoding="utf-8"))]
    assert [str(path.relative_to(ROOT)) for path in editing] == ["images/lay_out_triton.py"]
    assert "`images/lay_out_triton.py`" in RECORD


def test_each_of_rays_variables_is_in_the_record() -> None:
    variables = set(re.findall(r"^(\w+)=", (ROOT / "graphs" / "ray.env").read_text(), re.MULTILINE))
    for manifest in ROOT.glob("kuberay/manifests/*/rayservice.yaml"):
        variables |= set(re.findall(r"- name: (RAY_\w+)", manifest.read_text(encoding="utf-8")))
    assert len(variables) > 10
    assert sorted(variable for variable in variables if f"`{variable}`" not in RECORD) == []


def test_the_record_names_files_and_tests_that_exist() -> None:
    names = re.findall(r"`((?:deployments|graphs|images|kuberay|sonograph|tests)/[\w/.-]+)`", RECORD)
    assert len(names) > 50
    assert [name for name in names if not (ROOT / name).exists()] == []
