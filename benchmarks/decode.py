"""Microseconds per row from a program's outputs to predictions: our decoders beside those of transformers.

    python benchmarks/decode.py

Makes small models with random weights in a temporary folder, runs them once over the quickstart's rows,
then times `Task.decode` and the pipeline's `postprocess` alone, and writes the figures to
`benchmarks/decode.md`.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

QUICKSTART = REPOSITORY / "jobs/quickstart"
REPORT = Path(__file__).with_suffix(".md")
ROWS = 2_000
OUR_RUNS, PEER_RUNS = 5, 3
LONGEST_CHARACTERS = 250
LABELS = ["an animal", "a plant", "food", "a place", "money"]
TAGS = ["O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC", "ORG", "MISC") for prefix in "BI")]
BODY = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    task: str
    auto_model: str
    labels: Sequence[str] = ()
    rows: int = ROWS
    options: dict[str, Any] = field(default_factory=dict)
    """The task's, where they are not its defaults."""
    peer_options: dict[str, Any] | None = field(default_factory=dict)
    """Given to the pipeline's call; None where transformers 5 has no such pipeline."""
    note: str = ""
    same_result: bool = True
    """False: what the pipeline makes is another thing, so a ratio would say nothing."""


CLASSES = [f"class {number}" for number in range(45)]
SIMPLE = {"aggregation_strategy": "simple"}
ZERO_SHOT = {"candidate_labels": LABELS}
CASES = (
    Case("feature-extraction", "AutoModel", note="pooled", same_result=False),
    Case("feature-extraction", "AutoModel", options={"pooling": "none"}, note="token vectors"),
    Case("fill-mask", "AutoModelForMaskedLM"),
    Case("text-classification", "AutoModelForSequenceClassification", CLASSES),
    Case("token-classification", "AutoModelForTokenClassification", TAGS, ROWS, SIMPLE, SIMPLE, "simple"),
    Case(
        "zero-shot-classification",
        "AutoModelForSequenceClassification",
        ["contradiction", "neutral", "entailment"],
        1_000,
        ZERO_SHOT,
        ZERO_SHOT,
        f"{len(LABELS)} labels",
    ),
    Case("image-classification", "AutoModelForImageClassification", CLASSES, 512),
    Case("question-answering", "AutoModelForQuestionAnswering", peer_options=None),
)


@dataclass(frozen=True)
class Cost:
    """What one case took, in microseconds per row."""

    case: Case
    ours_us: float
    peer_us: float | None
    """None where there is no such pipeline."""


def save_model(folder: Path, case: Case) -> None:
    """A narrow model of one layer with random weights, and what makes its inputs."""
    import torch
    import transformers

    names = {"id2label": dict(enumerate(case.labels)), "label2id": {n: i for i, n in enumerate(case.labels)}}
    settings = {**BODY, "initializer_range": 0.3, **(names if case.labels else {})}
    if case.task == "image-classification":
        config = transformers.ViTConfig(image_size=32, patch_size=8, **settings)
        folder.mkdir()
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    else:
        shutil.copytree(QUICKSTART / "model", folder, ignore=shutil.ignore_patterns("model.safetensors"))
        words = json.loads((folder / "config.json").read_text())["vocab_size"]
        config = transformers.BertConfig(vocab_size=words, max_position_embeddings=128, **settings)
    torch.manual_seed(0)
    model = getattr(transformers, case.auto_model).from_config(config).eval()
    if case.task == "token-classification":
        model.classifier.bias.data[0] = 4.0  # so that most tokens are outside, as in real texts
    model.save_pretrained(folder)


def make_rows(case: Case) -> pa.Table:
    """The task's input columns, from the first definitions that fit the model."""
    if case.task == "image-classification":
        return pa.table({"image": [paint(seed) for seed in range(case.rows)]})
    table = pq.read_table(QUICKSTART / "glosses.parquet")
    table = table.filter(pc.less(pc.utf8_length(table["definition"]), LONGEST_CHARACTERS)).slice(0, case.rows)
    lemmas, texts = table["lemma"].to_pylist(), table["definition"].to_pylist()
    if case.task == "fill-mask":
        pairs = zip(lemmas, texts, strict=True)
        texts = [f"{lemma}: {text}. It is a kind of [MASK]." for lemma, text in pairs]
    if case.task == "question-answering":
        return pa.table({"question": [f"what is {lemma}?" for lemma in lemmas], "context": texts})
    return pa.table({"text": texts})


def paint(seed: int) -> bytes:
    """A PNG file of 32 x 32 random pixels."""
    from PIL import Image

    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def best_us(run: Callable[[], object], rows: int, runs: int) -> float:
    """Microseconds per row, the best of some runs."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / rows * 1e6


def time_ours(case: Case, folder: Path, rows: pa.Table) -> float:
    """`Task.decode` over all rows at once, as a worker calls it for a shard."""
    from batchneuron.backends.backend import CompileRequest
    from batchneuron.backends.torch_eager import TorchExecutable
    from batchneuron.model import resolve_model
    from batchneuron.planning.ladder import LadderRequest, Sample, plan_ladder
    from batchneuron.programs.program import load_program
    from batchneuron.spec.sections import ModelSpec
    from batchneuron.stages.execute import execute
    from batchneuron.stages.tokenize import Limit
    from batchneuron.tasks import open_task

    model = resolve_model(ModelSpec(id=str(folder)), "")
    task = open_task(case.task, case.options, model)
    encoder = task.open_encoder()
    limit = encoder.model_limit_tokens
    made = encoder.encode(rows, Limit(limit, "reject"))
    if made.rejections:
        raise SystemExit(f"{case.task}: {made.rejections[0]}")
    lengths = made.items.lengths
    ladder = plan_ladder(Sample(lengths, len(lengths)), LadderRequest(limit))
    program = load_program(CompileRequest(case.task, case.options, model), "float32")
    executables = [TorchExecutable(program, shape) for shape in ladder.shapes]
    outputs = execute(made.items, ladder, executables, model.config.get("vocab_size"), lambda _: None).outputs
    return best_us(lambda: task.decode(made.items, rows.num_rows, outputs), rows.num_rows, OUR_RUNS)


def time_peer(case: Case, folder: Path, rows: pa.Table) -> float | None:
    """The pipeline's `postprocess`, row by row as the pipeline calls it, over what it was given once."""
    if case.peer_options is None:
        return None
    from PIL import Image
    from transformers import pipeline

    from batchneuron.programs.program import quiet_transformers

    with quiet_transformers():
        pipe = pipeline(case.task, model=str(folder), device=-1, dtype="float32")
    calls: list[tuple[Any, dict[str, Any]]] = []
    postprocess = pipe.postprocess
    pipe.postprocess = lambda outputs, **params: calls.append((outputs, params))
    for value in rows.column(0).to_pylist():
        pipe(Image.open(io.BytesIO(value)) if isinstance(value, bytes) else value, **case.peer_options)
    if len(calls) != rows.num_rows:
        raise SystemExit(f"{case.task}: {len(calls)} calls of postprocess for {rows.num_rows} rows")
    return best_us(lambda: [postprocess(made, **params) for made, params in calls], len(calls), PEER_RUNS)


def measure(case: Case, folder: Path) -> Cost:
    """Both sides of one case, one after the other."""
    from batchneuron.programs.program import quiet_transformers

    with quiet_transformers():
        save_model(folder, case)
    rows = make_rows(case)
    return Cost(case, time_ours(case, folder, rows), time_peer(case, folder, rows))


def show(costs: Sequence[Cost]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| task | rows | batchneuron, µs per row | transformers, µs per row | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for cost in costs:
        case, ours, peer = cost.case, cost.ours_us, cost.peer_us
        name = f"{case.task}, {case.note}" if case.note else case.task
        ratio = f"{peer / ours:.1f}" if peer is not None and case.same_result else ""
        beside = "no such pipeline" if peer is None else f"{peer:.1f}"
        lines.append(f"| {name} | {case.rows:,} | {ours:.2f} | {beside} | {ratio} |")
    return "\n".join(lines)


def report(table: str) -> str:
    """The page: what was done, on what, and what came out."""
    machine = f"{_cpu_model()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch", "numpy", "pyarrow"))
    return f"""# Decode

Microseconds per row from what the model gave to predictions, beside the pipeline of transformers over the
same rows and the same weights. Reading, tokenising and the model itself are not in the figures.

    python benchmarks/decode.py

{table}

- Ours: `Task.decode`, called once for all rows as a worker calls it for a shard, to Arrow columns; the
  best of {OUR_RUNS} runs. Theirs: `postprocess`, called once a row with the outputs and the parameters
  that the pipeline itself passes, to Python objects; the best of {PEER_RUNS}. Ratio: theirs over ours.
- The two do not divide the work alike. Our softmax (but for zero-shot-classification and
  question-answering), the choice of fill-mask's five best and feature-extraction's pooling are in the
  program, on the device, and are not in our figures; theirs are in `postprocess`, and the pipeline of
  feature-extraction gives token vectors, pooled by nobody, so only our second line can be held against it.
- Options are the defaults, but for what the table and the next line say.
- Models: one layer, 128 wide, random weights, seed 0; the quickstart's tokenizer, 11,500 tokens. Labels:
  {len(CLASSES)} classes for texts and images, {len(TAGS)} tags, {len(LABELS)} candidate labels. The bias of
  the tag `O` is raised to 4, so that not every token is an entity.
- Rows: the quickstart's first definitions of less than {LONGEST_CHARACTERS} characters; fill-mask has one
  mask in each; the images are noise, and 512 are as many as a shard has.
- transformers 5 has no pipeline for question-answering.
- Machine: {machine}. One thread; others were at work on the machine, and
  three runs differed by up to a factor of two in a figure: read the ratios as orders of magnitude.
- {versions}.
"""


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )


def main() -> None:
    """Measure, print, and write the page."""
    import torch

    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(prefix="batchneuron-decode-") as name:
        costs = [measure(case, Path(name) / str(number)) for number, case in enumerate(CASES)]
    table = show(costs)
    print(table)
    REPORT.write_text(report(table))


if __name__ == "__main__":
    main()
