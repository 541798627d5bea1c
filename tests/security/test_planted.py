"""Secrets are planted in the environment and in mistakes, and looked for in all that a run leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from batchneuron.cli import main
from tests.faults.harness import GLOSSES, MODEL, REPOSITORY
from tests.stores import s3_faults

LIGHT = str(REPOSITORY / "tests/faults/light.py")
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIA" + "PLANTEDPLANTED01",
    "AWS_SECRET_ACCESS_KEY": "planted/planted/planted/planted/planted+",
    "AWS_SESSION_TOKEN": "planted-session-token-planted-session-token",
    "HF_TOKEN": "hf_" + "PlantedPlantedPlantedPlanted00",
    "DATABASE_PASSWORD": "planted-and-of-no-known-form",
}
IN_URLS = {
    "password": ("https://me:%s@host.invalid/rows.parquet", "plantedpassword01"),
    "presigned": ("https://b.s3.amazonaws.com/k?X-Amz-Signature=%s", "plantedsignature02"),
    "sas": ("https://a.blob.invalid/k?sig=%s", "plantedsas03"),
}


def require_none(text: str | bytes, where: object) -> None:
    content = text.encode() if isinstance(text, str) else text
    for name, secret in [*PLANTED.items(), *IN_URLS.values()]:
        assert secret.encode() not in content, f"{name} is in {where}"


@pytest.fixture
def server(monkeypatch):
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        yield boto3.resource("s3")


def write_job(folder: Path, **keys: str) -> Path:
    given = {"input": "s3://planted/in.parquet", "output": "s3://planted/out", **keys}
    path = folder / "job.yaml"
    path.write_text(
        f"task: text-classification\nmodel: {{id: '{MODEL}'}}\n"
        f"input: {{path: '{given['input']}', columns: {{text: definition}}, limit: 60}}\n"
        "shapes: {batch_size: 8, sequence_length: [64, 128]}\n"
        "backend: {kind: torch, workers: 1, parity_rows: 0}\n"
        f"output: {{path: '{given['output']}', shard_rows: 20}}\n"
    )
    return path


def run(folder: Path, job: Path) -> subprocess.CompletedProcess[str]:
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, LIGHT, "run", str(job)],
        env={
            **os.environ,
            **PLANTED,
            "PYTHONPATH": str(REPOSITORY),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(folder / "tmp"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_no_secret_is_in_anything_that_a_run_writes_or_says(server, tmp_path):
    """From a bucket to a bucket, by a worker; then the same run where it must fail."""
    bucket = server.create_bucket(Bucket="planted")
    bucket.upload_file(str(GLOSSES), "in.parquet")
    done = run(tmp_path, write_job(tmp_path))
    assert done.returncode == 0, done.stderr
    refused = run(tmp_path, write_job(tmp_path, output="s3://no-such-bucket/out"))
    assert refused.returncode == 78, refused.stderr
    objects = {item.key: item.get()["Body"].read() for item in bucket.objects.all()}
    assert (
        len([key for key in objects if "/data/" in key]) == 3 and "out/.batchneuron/manifest.json" in objects
    )
    for key, content in objects.items():
        require_none(content, key)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        require_none(path.read_bytes(), path)
    for ended in (done, refused):
        require_none(ended.stdout + ended.stderr, "the output")


@pytest.mark.parametrize("kind", IN_URLS)
def test_a_secret_in_a_url_is_refused_and_not_repeated(kind, tmp_path, capsys):
    pattern, secret = IN_URLS[kind]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(write_job(tmp_path, input=pattern.replace("%s", secret)))])
    said = "".join(capsys.readouterr())
    assert ended.value.code == 2 and "looks like a secret" in said
    require_none(said, "the output")


def test_a_secret_that_comes_in_by_a_variable_is_refused_and_not_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", PLANTED["HF_TOKEN"])
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(write_job(tmp_path, input="${env:MY_TOKEN}"))])
    said = "".join(capsys.readouterr())
    assert ended.value.code == 2 and "a Hugging Face token" in said
    require_none(said, "the output")


def test_a_traceback_tells_no_secret(tmp_path, capsys, monkeypatch):
    """What nobody foresaw is printed whole, but for credentials in it."""

    def fail(*_: object) -> None:
        raise RuntimeError(
            f"request with {PLANTED['HF_TOKEN']} to {IN_URLS['presigned'][0] % 'plantedsignature02'}"
        )

    monkeypatch.setattr("batchneuron.run.load_job", fail)
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(write_job(tmp_path))])
    said = capsys.readouterr().err
    assert ended.value.code == 70 and "RuntimeError: request with [redacted] to https://b.s3" in said
    require_none(said, "the output")
