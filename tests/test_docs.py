"""What the documents say is true: links, commands, keys, and examples that run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from batchneuron.cli import cli
from batchneuron.spec.parse import parse_spec
from batchneuron.tasks import KINDS, OPTIONS

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("jobs/**/*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for name in cli.commands:
        assert f"`batchneuron {name}" in readme


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z0-9]+)", (ROOT / "README.md").read_text()))
    assert named <= targets and {"demo", "test"} <= named


def test_the_page_of_all_keys_is_fresh():
    written = subprocess.check_output(
        [sys.executable, "-c", "import spec_docs; print(spec_docs.render_page(), end='')"],
        text=True,
        cwd=ROOT / "scripts",
    )
    assert (ROOT / "docs" / "spec.md").read_text() == written, "run: python scripts/spec_docs.py"


def test_every_task_has_its_page():
    for kind in KINDS.values():
        page = (ROOT / "docs" / f"{kind.name}.md").read_text()
        for name in [*kind.inputs, *kind.optional_inputs, *kind.options.model_fields]:
            assert f"`{name}`" in page, f"{kind.name}: {name}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```yaml" in page.read_text()], ids=lambda page: page.stem
)
def test_specs_in_documents_are_valid(page):
    for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        assert YAML(typ="safe").load(text)["task"] in KINDS
        parse_spec(text, page.name, (), OPTIONS)
