"""The documents' links: each leads to a file, and to a heading in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "deployments", "docs", "kuberay")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them, and those that stand in the text."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    stated = re.findall(r'<a id="([\w-]+)"></a>', text)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings} | set(stated)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_to_a_heading_in_it(document: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        address, _, anchor = link.partition("#")
        if "://" in address:
            continue
        target = (document.parent / address).resolve() if address else document
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_each_decision_has_one_row_in_their_index_in_order() -> None:
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(r"^\| \[(\d{4})\]\((\1-[\w-]+\.md)\) \| .+\. \|$", (folder / "index.md").read_text(), re.MULTILINE)
    assert [name for _, name in rows] == sorted(path.name for path in folder.glob("0*.md"))
    for number, name in rows:
        assert (folder / name).read_text().startswith(f"# {number}: ")


def test_the_glossary_is_in_order() -> None:
    head, *words = re.findall(r"^\| (\w[^|]*) \| \w", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert (head, words) == ("word", sorted(set(words)))
