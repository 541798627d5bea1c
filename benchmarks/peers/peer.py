"""One peer over one corpus, in a process and an environment of its own; run by `compare.py`.

Prints one line of JSON: rows, seconds of the work (read Parquet, predict, write Parquet), seconds of the
set-up before it. The predictions go to the Parquet file named by `output`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Work = Callable[[pa.Table], dict[str, Any]]
WARM_ROWS = 32


def main() -> None:
    """Set up, warm up, then time the whole way from file to file."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    started = time.perf_counter()
    work = ENGINES[order["engine"]](order)
    if order["engine"] not in {"map", "ray"}:  # they start their workers within the work
        work(pq.read_table(order["input"]).slice(0, WARM_ROWS))
    ready = time.perf_counter()
    table = pq.read_table(order["input"])
    pq.write_table(pa.table(work(table)), order["output"])
    done = time.perf_counter()
    print(json.dumps({"rows": table.num_rows, "work_s": done - ready, "setup_s": ready - started}))


def open_sentence_transformers(order: dict[str, Any]) -> Work:
    """`SentenceTransformer.encode`, on torch or on OpenVINO."""
    from sentence_transformers import SentenceTransformer

    backend = order.get("backend", "torch")
    options = {"model_kwargs": {"torch_dtype": order["dtype"]}} if backend == "torch" else {}
    model = SentenceTransformer(order["model"], device="cpu", backend=backend, **options)

    def work(table: pa.Table) -> dict[str, Any]:
        texts = table["text"].to_pylist()
        vectors = model.encode(texts, batch_size=order["batch_rows"], normalize_embeddings=True)
        return {"embedding": _to_arrow(vectors)}

    return work


def open_map(order: dict[str, Any]) -> Work:
    """`datasets.map` with two processes, sentence-transformers in each."""
    import datasets

    def work(table: pa.Table) -> dict[str, Any]:
        rows = datasets.Dataset(table)
        encoder = _LazyEncoder(order)
        done = rows.map(encoder, batched=True, batch_size=order["batch_rows"] * 8, num_proc=2)
        return {"embedding": done.data["embedding"]}

    return work


def open_ray(order: dict[str, Any]) -> Work:
    """Ray Data's `map_batches` over two actors."""
    import ray

    # A third, for the tasks that bring the rows: two actors of one CPU each would wait for them for ever.
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def work(table: pa.Table) -> dict[str, Any]:
        actors = ray.data.ActorPoolStrategy(size=2)
        numbered = table.append_column("row", pa.array(range(table.num_rows)))
        rows = ray.data.from_arrow(numbered).repartition(8)
        made = rows.map_batches(
            _LazyEncoder,
            fn_constructor_args=(order,),
            batch_size=order["batch_rows"] * 8,
            compute=actors,
            num_cpus=1,
        )
        found = made.to_pandas().sort_values("row")
        return {"embedding": pa.array(list(found["embedding"]), pa.list_(pa.float32()))}

    return work


class _LazyEncoder:
    """sentence-transformers on one thread, opened in the process that first calls it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order, self._model = order, None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._model is None:
            import torch
            from sentence_transformers import SentenceTransformer

            torch.set_num_threads(1)
            options = {"torch_dtype": self._order["dtype"]}
            self._model = SentenceTransformer(self._order["model"], device="cpu", model_kwargs=options)
        texts = list(batch["text"])
        vectors = self._model.encode(texts, batch_size=self._order["batch_rows"], normalize_embeddings=True)
        return {**batch, "embedding": vectors}


def open_pipeline(order: dict[str, Any]) -> Work:
    """`transformers.pipeline`, its model from transformers or from optimum-intel."""
    from transformers import AutoTokenizer, pipeline

    task = order["task"]
    options: dict[str, Any] = {"model": order["model"], "device": "cpu", "dtype": order["dtype"]}
    if order["engine"] == "optimum":
        options = {"model": _load_optimum(order)}
    if task == "image-classification":
        options["image_processor"] = order["model"]
    else:
        tokenizer = AutoTokenizer.from_pretrained(order["model"], model_max_length=order["max_tokens"])
        options["tokenizer"] = tokenizer
    pipe = pipeline(task, batch_size=order["batch_rows"], **options)
    return lambda table: _READERS[task](pipe, table, order)


def _load_optimum(order: dict[str, Any]) -> Any:
    from optimum import intel

    name = {
        "text-classification": "OVModelForSequenceClassification",
        "token-classification": "OVModelForTokenClassification",
        "image-classification": "OVModelForImageClassification",
    }[order["task"]]
    return getattr(intel, name).from_pretrained(order["model"], export=True)


def _embed(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    texts = table["text"].to_pylist()
    # The pipeline gives vectors of padding, too; its users have to count the tokens to leave them out.
    counts = [len(ids) for ids in pipe.tokenizer(texts, truncation=True)["input_ids"]]
    vectors = []
    for tokens, count in zip(pipe(texts, tokenize_kwargs={"truncation": True}), counts, strict=True):
        mean = np.asarray(tokens[0][:count], dtype=np.float32).mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return {"embedding": _to_arrow(np.stack(vectors))}


def _classify(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    found = pipe(table["text"].to_pylist(), truncation=True)
    return {"label": [row["label"] for row in found]}


def _tag(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    found = pipe(table["text"].to_pylist())
    return {"label": ["|".join(f"{word['entity']}@{word['start']}" for word in row) for row in found]}


def _rank(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    return {"label": [row["labels"][0] for row in pipe(table["text"].to_pylist(), order["labels"])]}


def _answer(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    found = pipe(question=table["question"].to_pylist(), context=table["context"].to_pylist())
    return {"label": [row["answer"] for row in found]}


def _look(pipe: Any, table: pa.Table, order: dict[str, Any]) -> dict[str, Any]:
    import io

    from PIL import Image

    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in table["image"].to_pylist()]
    return {"label": [row[0]["label"] for row in pipe(images, top_k=1)]}


def _to_arrow(vectors: Any) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


_READERS = {
    "feature-extraction": _embed,
    "text-classification": _classify,
    "token-classification": _tag,
    "zero-shot-classification": _rank,
    "question-answering": _answer,
    "image-classification": _look,
}
ENGINES: dict[str, Callable[[dict[str, Any]], Work]] = {
    "sentence-transformers": open_sentence_transformers,
    "map": open_map,
    "ray": open_ray,
    "pipeline": open_pipeline,
    "optimum": open_pipeline,
}

if __name__ == "__main__":
    Path(json.loads(sys.argv[1])["output"]).parent.mkdir(parents=True, exist_ok=True)
    main()
