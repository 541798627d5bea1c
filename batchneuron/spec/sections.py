"""What a user asks for: one frozen record per section of the YAML file.

Knows the words and their defaults; does not know YAML (`parse.py`), the tasks' own options
(`tasks/`), or what the machine can do (`backends/`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

TaskName = Literal[
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "token-classification",
    "question-answering",
    "zero-shot-classification",
    "image-classification",
]
DType = Literal["float32", "bfloat16", "float16"]
PositiveInt = Annotated[int, Field(ge=1)]
Ladder = Annotated[list[PositiveInt], Field(min_length=1)]


class Section(BaseModel):
    """Common rules of every section: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSpec(Section):
    """Which weights, at which commit."""

    id: str | None = Field(
        None, description="Hub id (org/name or org/name@revision) or a folder; default: the task's."
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit; resolved to a commit and recorded."
    )
    dtype: DType = Field("float32", description="Type the weights are loaded as.")
    trust_remote_code: bool = Field(
        False,
        description="Run code from the model's repository. Needs a 40-hex revision and --trust-remote-code.",
    )


class InputSpec(Section):
    """Which rows, and which of their columns."""

    path: str = Field(
        min_length=1,
        description="File, glob, folder, s3:// URI, hub dataset id, or a format name (parquet, json, csv, "
        "arrow) with data_files.",
    )
    name: str | None = Field(None, description="Configuration of a hub dataset, as in datasets.load_dataset.")
    data_files: str | list[str] | dict[str, str | list[str]] | None = Field(
        None, description="Files, globs, or a mapping from split to them."
    )
    split: str = Field("train", description="Split to read.")
    revision: str | None = Field(None, description="Commit, tag or branch of a hub dataset.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Task input <- a column, or a template over columns: '{title}\\n{body}'.",
    )
    keep: list[str] | dict[str, str] | None = Field(
        None, description="Columns carried through: a list, or {output name: column}; default: all."
    )
    limit: Annotated[int, Field(ge=0)] | None = Field(None, description="Only the first so many rows.")
    on_bad_file: Literal["fail", "skip"] = Field(
        "fail",
        description="What a torn, truncated or damaged file does: end the run, or lose its rows, which are "
        "counted and reported.",
    )
    encoding_errors: Literal["reject", "replace"] = Field(
        "reject",
        description="What bytes of a text that are not UTF-8 do: reject their row, or become U+FFFD.",
    )


class ShapesSpec(Section):
    """The static shapes, or how to plan them."""

    batch_size: PositiveInt | Literal["auto"] = Field("auto", description="Rows of a batch; auto: by length.")
    sequence_length: PositiveInt | Ladder | Literal["auto"] = Field(
        "auto",
        description="Tokens: a number, a list (the ladder), or auto: planned from a sample of the data.",
    )
    max_length: PositiveInt | None = Field(None, description="Cap in tokens; default: the model's own limit.")
    overflow: Literal["truncate", "split", "reject"] = Field(
        "truncate", description="What happens to rows longer than the longest shape."
    )


class BackendSpec(Section):
    """What runs the program."""

    kind: Literal["auto", "cpu", "torch", "neuron-trace", "neuron"] = Field(
        "auto", description="What compiles and runs the program; auto: what this machine has."
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where the torch backend computes; cuda: one worker for each NVIDIA GPU."
    )
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Worker processes, one core each; 0 runs in this process."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Type of the arithmetic; auto: bfloat16 where the hardware is made for it and "
        "agrees with the reference, else float32.",
    )
    compiler_args: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Passed to the backend's compiler: optlevel, auto_cast."
    )
    target: Literal["auto", "inf2", "trn1", "trn1n", "trn2", "trn3"] = Field(
        "auto", description="Chip to compile for; auto: this machine's. Needed where there is none."
    )
    logical_core_size: Literal["auto", 1, 2] = Field(
        "auto", description="Physical NeuronCores in a logical one, Trn2 and Trn3; auto: as the host is set."
    )
    artifacts: str | None = Field(
        None,
        description="Where compiled programs are shared: a folder, or an s3:// URI beside the local cache.",
    )
    artifacts_lock: str | None = Field(
        None,
        description="File of `compile --lock`: shared programs that it does not name are not used.",
    )
    parity_rows: Annotated[int, Field(ge=0)] = Field(
        64,
        description="Rows of the input that a new artifact is held against the reference with; 0: none.",
    )
    parity_tolerance: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Allowed share of differing labels; default: by precision, with its other limits."
    )


class OutputSpec(Section):
    """Where the predictions go."""

    path: str = Field(min_length=1, description="Run folder: a local one, or s3://bucket/prefix.")
    shard_rows: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Rows per shard, and so per output file; auto: about 40 s of one core's work.",
    )
    compression: Literal["zstd", "snappy", "lz4", "gzip", "none"] = Field(
        "zstd", description="Compression of the Parquet files."
    )


class ErrorsSpec(Section):
    """How many rows may be rejected, and when a worker is given up."""

    max_rejected: Annotated[float, Field(ge=0, lt=1)] | Annotated[int, Field(ge=1)] = Field(
        0.01, description="Below 1: a share of the rows. 1 or more: a number of rows."
    )
    hang_s: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Seconds without progress after which a worker is replaced; default: 300, or twenty "
        "times the longest pause so far where that is more.",
    )


class JobSpec(Section):
    """One job: a task over a dataset, from a YAML file."""

    name: str | None = Field(None, description="For people; default: the file's name.")
    task: TaskName = Field(description="The kind of prediction.")
    model: ModelSpec = ModelSpec()
    input: InputSpec
    shapes: ShapesSpec = ShapesSpec()
    options: dict[str, JsonValue] = Field(default_factory=dict, description="The task's own options.")
    backend: BackendSpec = BackendSpec()
    output: OutputSpec
    errors: ErrorsSpec = ErrorsSpec()
