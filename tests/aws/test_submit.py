"""submit against moto: what is asked of AWS, what is put beside the output, and what is refused."""

import json

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.aws.validate import require_valid
from batchneuron.errors import SpecError
from batchneuron.ledger.status import read_status
from batchneuron.planning.freeze import freeze_job
from batchneuron.run import load_job, run_job
from batchneuron.workers.ticket import Portion, Ticket
from tests.aws.account import QUEUE, list_keys, read_object

ON_CHIP = ("--queue", QUEUE, "--image", "registry/batchneuron:1", "--instance-type")
ON_CPU = (*ON_CHIP, "inf2.xlarge", "--set", "backend.kind=torch")
OUT = "s3://acme/out"


def list_jobs():
    return boto3.client("batch").list_jobs(jobQueue=QUEUE, jobStatus="SUCCEEDED")["jobSummaryList"]


def list_definitions():
    return boto3.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"]


def test_a_dry_run_prints_the_exact_requests_and_does_nothing(call, job):
    before = (list_keys(""), len(list_jobs()), len(list_definitions()))

    flags = ("--set", "backend.workers=auto", "--array-size", 3, "--dry-run", "--json")
    code, out, err = call("submit", job, *ON_CHIP, "inf2.48xlarge", *flags)

    assert code == 0, err
    assert (list_keys(""), len(list_jobs()), len(list_definitions())) == before
    asked = json.loads(out)
    properties = asked["definition"]["containerProperties"]
    devices = properties["linuxParameters"]["devices"]
    assert [device["hostPath"] for device in devices] == [f"/dev/neuron{number}" for number in range(12)]
    assert properties["resourceRequirements"] == [
        {"type": "VCPU", "value": "192"},
        {"type": "MEMORY", "value": str(786432 - 31457)},
    ]
    assert (properties["user"], properties["readonlyRootFilesystem"]) == ("10001:10001", True)
    assert {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"} in properties["environment"]
    assert [tuple(rule.values()) for rule in asked["definition"]["retryStrategy"]["evaluateOnExit"]] == [
        ("Host EC2*", "RETRY"), ("75", "RETRY"), ("137", "RETRY"), ("Cannot*", "RETRY"), ("*", "EXIT"),
    ]  # fmt: skip
    assert asked["job"]["arrayProperties"] == {"size": 3}
    assert asked["job"]["containerOverrides"]["command"] == [
        "run", asked["frozen"]["spec"], "--plan", asked["frozen"]["plan"],
    ]  # fmt: skip
    assert asked["job_id"] is None and asked["workers"] == 24
    assert "model.id is a folder" in err and "lets them share programs" in err


def test_a_submission_puts_spec_and_plan_beside_the_output_and_does_not_claim_it(call, job):
    code, out, err = call("submit", job, *ON_CHIP, "inf2.xlarge", "--array-size", 2, "--name", "first night")

    assert code == 0, err
    spec, plan = (key for start in ("spec-", "plan-") for key in list_keys(f"out/.batchneuron/{start}"))
    frozen = load_job(f"s3://acme/{spec}")
    assert (frozen.backend.kind, frozen.backend.target, frozen.name) == ("neuron-trace", "inf2", "labels")
    assert "out/.batchneuron/run.json" not in list_keys("out")
    found = next(each for each in list_jobs() if each["jobName"] == "first-night")
    described = boto3.client("batch").describe_jobs(jobs=[found["jobId"]])["jobs"][0]
    command = ["run", f"s3://acme/{spec}", "--plan", plan.rpartition("/")[2]]
    assert described["container"]["command"] == command
    assert described["arrayProperties"]["size"] == 2
    assert f"#jobs/detail/{found['jobId']}" in out
    assert "batchneuron status s3://acme/out --watch" in out
    assert "at most $1.52 an hour" in out
    code, _, err = call("status", OUT)
    assert code == 75 and "submitted, and no runner has begun yet" in err


def test_a_definition_that_says_the_same_is_registered_once(call, job):
    arguments = ("submit", job, *ON_CPU, "--timeout", "2h", "--json")
    first, second = (json.loads(call(*arguments)[1]) for _ in range(2))
    other = json.loads(call(*arguments, "--attempts", 2)[1])

    name = first["definition"]["jobDefinitionName"]
    assert second["definition"]["jobDefinitionName"] == name != other["definition"]["jobDefinitionName"]
    revisions = [each for each in list_definitions() if each["jobDefinitionName"] == name]
    assert [each["timeout"] for each in revisions] == [{"attemptDurationSeconds": 7200}]
    assert revisions[0]["retryStrategy"]["attempts"] == 5


def test_children_take_the_frozen_plan_and_share_the_rows(call, job):
    code, out, err = call("submit", job, *ON_CPU, "--array-size", 2, "--json")
    assert code == 0, err
    frozen = json.loads(out)["frozen"]
    spec = load_job(frozen["spec"])

    summary = run_job(spec, ticket=Ticket(Portion(1, 2), frozen["plan"]))

    done = [part.shard for part in summary.done_now]
    assert (done[:2], sorted(done)) == ([2, 3], [0, 1, 2, 3])
    assert json.loads(read_object("out/.batchneuron/run.json"))["plan"] == frozen["plan"]
    assert run_job(spec, ticket=Ticket(Portion(0, 2), frozen["plan"])).done_now == ()
    assert read_status(OUT).is_finished
    code, out, _ = call("submit", job, *ON_CPU)
    assert code == 0 and "nothing to do: 42 rows" in out


def test_what_is_there_already_is_not_submitted_again(call, job, bucket):
    spec = load_job(job, ["backend.kind=torch"])
    run_job(spec)
    for key in list_keys("out/data/")[1:4]:
        bucket.Object(key).delete()
    bucket.Object("out/.batchneuron/manifest.json").delete()

    code, out, err = call("submit", job, *ON_CPU, "--json")

    assert code == 0, err
    frozen = json.loads(out)["frozen"]
    assert (frozen["shards"], frozen["shards_done"]) == (4, 1)
    assert len(run_job(load_job(frozen["spec"]), ticket=Ticket(plan=frozen["plan"])).done_now) == 3


def test_an_input_that_changed_since_the_submission_is_refused_by_the_children(call, job, bucket, tmp_path):
    frozen = json.loads(call("submit", job, *ON_CPU, "--json")[1])["frozen"]
    more = pa.table({"id": [1], "text": ["alpha"], "note": ["x"]})
    pq.write_table(more, tmp_path / "more.parquet")
    bucket.upload_file(str(tmp_path / "more.parquet"), "in/rows-9.parquet")

    code, _, err = call("run", frozen["spec"], "--plan", frozen["plan"])

    assert code == 65 and "s3://acme/in/rows-9.parquet is new" in err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--queue", "nowhere", *ON_CPU[2:]), 78, "nowhere: there is no such queue"),
        (ON_CPU[2:], 2, "no queue is named"),
        (("--queue", QUEUE, "--set", "backend.kind=torch"), 2, "nothing says what the children run in"),
        (("--queue", QUEUE, "--job-definition", "mine"), 2, "nothing says what the children run on"),
        ((*ON_CHIP, "trn2.48xlarge", "--set", "backend.target=inf2"), 2, "backend.target: is inf2"),
        ((*ON_CHIP, "trn1.2xlarge", "--set", "backend.kind=neuron"), 2, "trn1.2xlarge takes neuron-trace"),
        ((*ON_CPU, "--set", "output.path=here"), 2, "share no disk"),
        ((*ON_CPU, "--array-size", "10001"), 2, "1 to 10,000"),
        ((*ON_CPU, "--timeout", "0.5m"), 2, "a minute at least"),
        ((*ON_CPU, "--secret", "HF_TOKEN=arn:aws:ssm:us-east-1:1:parameter/x"), 2, "need an execution role"),
        ((*ON_CPU, "--stack", "nowhere"), 78, "nowhere"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(call, job, flags, code, said):
    before = list_keys("")

    ended, _, err = call("submit", job, *flags)

    assert (ended, list_keys("")) == (code, before)
    assert said in err


def test_a_secrets_value_is_refused_and_not_repeated(call, job):
    code, out, err = call("submit", job, *ON_CPU, "--secret", "HF_TOKEN=hf_abcdefghijklmnopqrstuvwx")

    assert code == 2 and "HF_TOKEN" in err
    assert "hf_abc" not in out + err


def test_another_job_in_the_folder_is_refused_by_name(call, job):
    run_job(load_job(job, ["backend.kind=torch", "input.limit=5"]))

    code, _, err = call("submit", job, *ON_CPU)

    assert code == 73 and "input.limit: null here, 5 in the run folder" in err


def test_an_instance_type_that_is_not_in_our_table_is_asked_of_aws(call, job):
    code, out, err = call("submit", job, *ON_CHIP, "c5.4xlarge", "--dry-run", "--json")

    assert code == 0, err
    asked = json.loads(out)
    assert (asked["machine"]["vcpus"], asked["machine"]["chips"]) == (16, 0)
    assert asked["definition"]["containerProperties"]["linuxParameters"]["devices"] == []
    assert call("submit", job, *ON_CHIP, "q9.huge", "--dry-run")[0] == 78


def test_a_request_that_aws_would_not_take_is_found_without_asking():
    with pytest.raises(SpecError, match="arrayProperties"):
        require_valid("batch", "SubmitJob", {"jobName": "x", "jobQueue": "q", "arrayProperties": 3})


def test_freezing_twice_makes_the_same_files(job):
    spec = load_job(job, ["backend.kind=torch"])
    first, second = freeze_job(spec), freeze_job(spec)

    assert (first.spec, first.plan) == (second.spec, second.plan)
    assert len(list_keys("out/.batchneuron/spec-")) == len(list_keys("out/.batchneuron/plan-")) == 1
