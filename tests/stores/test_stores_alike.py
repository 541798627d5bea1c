"""All stores give the answers of the model, whatever is asked of them, in any order, and after a crash.

Three stores beside the model: a local folder, S3's own store over a bucket that is a value (which is what the
protocol is explored with), and the same over moto. Random rules, drawn by Hypothesis.
"""

import hashlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from batchneuron.errors import OutputConflict
from batchneuron.stores.local import LocalStore
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import open_client
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from batchneuron.stores.store import Draft
from tests.stores.model_bucket import Bucket, ModelClient
from tests.stores.model_store import ModelStore

NAMES = st.sampled_from(["data/a", "data/b", ".batchneuron/run.json", "data/é 1"])
CONTENTS = st.sampled_from([b"", b"1", b"two", b"2" * 1000])
QUICKLY = settings(max_examples=40, stateful_step_count=20, phases=[Phase.generate], database=None)
_numbers = itertools.count()


class Sides(RuleBasedStateMachine):
    """The model, and stores that must not be told from it."""

    @staticmethod
    def open_client():
        """A client, of which all reopened stores get the same bucket."""
        return ModelClient(Bucket().ask)

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.client, self.number = self.open_client(), next(_numbers)
        self.model = ModelStore()
        self.reopen()

    def teardown(self):
        self.folder.cleanup()

    @rule()
    def reopen(self):
        """A process has died, and another begins: what it left half-written is nobody's."""
        requests = S3Requests("s3://alike/run", lambda: self.client, rest=lambda _: None)
        s3 = S3Store(requests, "alike", f"run-{self.number}", S3Scratch("s3://alike/run"))
        self.stores = [LocalStore(Path(self.folder.name) / "out"), s3]
        for store in self.stores:
            store.prepare()

    @rule(name=NAMES, content=CONTENTS)
    def create(self, name, content):
        answers = []
        for number, store in enumerate((*self.stores, self.model)):
            path = Path(self.folder.name) / f"{number}.draft"
            path.write_bytes(content)
            answers.append(store.create(name, Draft(path, hashlib.sha256(content).hexdigest())))
            assert not path.exists()
        assert len(set(answers)) == 1

    @rule(content=CONTENTS)
    def leave_a_draft(self, content):
        """A crash between writing and publishing: nothing has been created."""
        for store in self.stores:
            store.scratch_file("left").write_bytes(content)

    @rule(name=NAMES, content=CONTENTS)
    def create_bytes(self, name, content):
        self.compare("create_bytes", name, content)

    @rule(name=NAMES, content=CONTENTS)
    def replace_bytes(self, name, content):
        self.compare("replace_bytes", name, content)

    @rule(name=NAMES, content=CONTENTS, other=st.none() | CONTENTS)
    def replace_if(self, name, content, other):
        expected = self.model.read(name) if other is None else other
        self.compare("replace_if", name, content, expected or b"")

    @rule(name=NAMES)
    def delete(self, name):
        self.compare("delete", name)

    @rule(names=st.lists(NAMES, max_size=3))
    def delete_many(self, names):
        self.compare("delete_many", names)

    @rule(names=st.lists(NAMES, max_size=5))
    def read_many(self, names):
        self.compare("read_many", names)

    @rule(name=NAMES)
    def read(self, name):
        self.compare("read", name)

    @rule(name=NAMES)
    def read_sha256(self, name):
        expected = self.model.read_sha256(name)
        for store in self.stores:
            if expected is None:
                with pytest.raises(OutputConflict):
                    store.read_sha256(name)
            else:
                assert store.read_sha256(name) == expected

    @rule(folder=st.sampled_from(["data", "nowhere"]))
    def list(self, folder):
        self.compare("list", folder)

    def compare(self, verb, *arguments):
        expected = getattr(self.model, verb)(*arguments)
        for store in self.stores:
            assert getattr(store, verb)(*arguments) == expected, f"{verb} of {type(store).__name__}"


def test_a_folder_and_a_model_bucket_answer_as_the_model_does(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_state_machine_as_test(Sides, settings=settings(max_examples=25, stateful_step_count=30))


def test_a_bucket_answers_as_the_model_does(server, bucket, tmp_path, monkeypatch):
    client = open_client(attempts=1)
    client.create_bucket(Bucket="alike")

    class OverMoto(Sides):
        @staticmethod
        def open_client():
            return client

    run_state_machine_as_test(OverMoto, settings=settings(max_examples=8, stateful_step_count=30))


class Forgetful(LocalStore):
    """Says that it has created what was there."""

    def create_bytes(self, name, content):
        LocalStore.create_bytes(self, name, content)
        return True


def test_a_store_that_answers_otherwise_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class WithForgetful(Sides):
        def reopen(self):
            Sides.reopen(self)
            self.stores[0] = Forgetful(self.stores[0].root)

    with pytest.raises(AssertionError, match="create_bytes of Forgetful"):
        run_state_machine_as_test(WithForgetful, settings=QUICKLY)
