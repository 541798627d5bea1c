"""An account with a queue, a bucket with the tiny rows, and a job over them."""

from __future__ import annotations

import boto3
import pytest

from batchneuron.cli import main
from batchneuron.stores import s3_scratch
from tests.aws import account


@pytest.fixture(scope="module")
def served():
    with pytest.MonkeyPatch.context() as monkeypatch, account.serve(monkeypatch) as url:
        account.make_queue()
        yield url


@pytest.fixture
def bucket(served, monkeypatch, tmp_path, rows_folder):
    monkeypatch.setattr(s3_scratch.tempfile, "tempdir", str(tmp_path))
    bucket = boto3.resource("s3").create_bucket(Bucket=account.BUCKET)
    for path in rows_folder.iterdir():
        bucket.upload_file(str(path), f"in/{path.name}")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def job(bucket, classifier, tmp_path):
    """A spec file: 42 rows of the bucket in four shards."""
    path = tmp_path / "labels.yaml"
    path.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        "input: {path: 's3://acme/in', columns: {text: text}}\n"
        "shapes: {batch_size: 4, sequence_length: [8, 16, 48]}\n"
        "backend: {workers: 0}\n"
        "output: {path: 's3://acme/out', shard_rows: 10}\n"
    )
    return path


@pytest.fixture
def call(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run
