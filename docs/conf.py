"""Sphinx's configuration of the guide, which `make docs` builds.

Its source is the repository, so that a link from one document to another is the same here and where people read the files.
"""

import importlib.metadata
import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "Sonograph"
release = importlib.metadata.version("sonograph")
root_doc = "docs/index"
include_patterns = [
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/**.md", "deployments/*/**.md", "docs/**.md", "kuberay/**.md"),
    "training/**.md",
]
exclude_patterns = [".*", "build", "kuberay/manifests"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline", "html_image"]
nitpicky = True
html_theme = "furo"
html_title = f"Sonograph {release}"
html_favicon = "../graphs/http/static/icon.svg"
html_copy_source = False
html_show_sourcelink = False


def adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Make each anchor of HTML one of MyST's, to which a link can lead; a link to a folder or a module, which is no page, is its name."""
    folder = (Path(app.srcdir) / name).parent

    def adapted(link: re.Match[str]) -> str:
        target = folder / link[2]
        return link[1] if target.is_dir() or target.suffix == ".py" else link[0]

    text = re.sub(r'<a id="([\w-]+)"></a>', r"[]{#\1}", source[0])
    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#:]+)\)", adapted, text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", adapt)
    app.add_lexer("logql", TextLexer)
