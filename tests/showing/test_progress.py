"""Progress: arithmetic that can be checked on paper, and lines that come neither too often nor never."""

import io
from types import SimpleNamespace

import pyarrow as pa
import pytest
from rich.console import Console

from batchneuron.errors import ParityError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.agreement import Agreement, Parity, ShapeAgreement
from batchneuron.programs.compile import CompileEvent
from batchneuron.showing import progress
from batchneuron.showing.progress import Meter, Reporter
from batchneuron.sources import Inventory
from batchneuron.workers.events import (
    BatchDone,
    CoreRetired,
    OthersSeen,
    PartDone,
    RowIsolated,
    StageSeconds,
    WorkerLost,
    WorkerReady,
)
from tests.backends.arithmetic import ArithmeticBackend


def make_part(rows, tokens, rejected=0):
    seconds = StageSeconds(0.0, 0.0, 0.0)
    return PartDone(0, rows, rejected, 0, tokens, tokens, 1, "0" * 64, created=True, seconds=seconds)


def test_before_anything_is_done_the_sample_says_how_much_there_is():
    meter = Meter(rows_left=100, tokens_per_row=12.5)

    assert (meter.tokens_total, meter.share) == (1250, 0)
    assert (meter.tokens_per_s, meter.rows_per_s, meter.left_s) == (0, 0, None)
    assert meter.line() == "0%, 0 of 100 rows written, 0 rows/s"


def test_tokens_count_from_the_batch_and_rows_from_the_part():
    meter = Meter(100, 10.0)
    meter.note(WorkerReady(1.0), 0.0)
    meter.note(BatchDone(200), 0.0)
    meter.note(BatchDone(300), 4.0)

    assert (meter.tokens_done, meter.rows_done) == (500, 0)
    assert meter.share == 500 / 1000
    assert meter.tokens_per_s == 300 / 4
    assert meter.rows_per_s == 75 / 10
    assert meter.left_s == 500 / 75

    meter.note(make_part(rows=20, tokens=500, rejected=3), 4.0)

    assert (meter.rows_done, meter.rejected) == (20, 3)
    assert meter.tokens_total == 500 + 80 * 25  # finished rows were longer than the sample said
    assert meter.share == 500 / 2500
    assert meter.left_s == 2000 / 75
    assert meter.line() == "20%, 20 of 100 rows written, 3 rows/s, 3 rejected, 0:26 left"


def test_the_speed_is_that_of_the_last_twenty_seconds():
    meter = Meter(1000, 10.0)
    meter.note(BatchDone(5000), 0.0)
    meter.note(BatchDone(100), 30.0)
    assert meter.tokens_per_s == 0  # a single mark is no speed

    meter.note(BatchDone(100), 35.0)
    assert meter.tokens_per_s == 20


def test_a_batch_costs_no_more_however_many_came_before():
    meter = Meter(1000, 10.0)
    marks = meter._marks
    for second in range(100):
        meter.note(BatchDone(20), float(second))

    assert meter._marks is marks
    assert (len(marks), meter.tokens_per_s) == (20, 20)


def test_the_share_never_passes_one_nor_falls_apart_without_rows():
    meter = Meter(10, 1.0)
    meter.note(BatchDone(500), 0.0)
    assert meter.share == 1

    nothing = Meter(0, 0.0)
    assert (nothing.share, nothing.rows_per_s) == (0, 0)
    assert "0 of 0 rows" in nothing.line()


def test_everything_done_is_all_of_it():
    meter = Meter(7, 3.0)
    for second in range(7):
        meter.note(BatchDone(11), float(second))
    meter.note(make_part(7, 77), 7.0)

    assert (meter.share, meter.left_s) == (1, 0)


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0, "0:00"), (61.9, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_the_clock(seconds, clock):
    meter = Meter(2, 1.0)
    meter.note(BatchDone(0), 0.0)
    meter.note(BatchDone(1), 1.0)
    meter.rows_left = 1 + seconds
    assert meter.line().endswith(f", {clock} left")


def test_rows_that_others_do_are_theirs():
    meter = Meter(100, 10.0)
    meter.note(OthersSeen(rows_done=60), 0.0)
    assert (meter.rows_here, meter.tokens_total) == (40, 400)

    meter.note(BatchDone(200), 0.0)
    meter.note(make_part(20, 200), 1.0)

    assert meter.share == 0.5
    assert meter.line().startswith("50%, 20 of 40 rows written, 60 by other runners, ")


def test_a_runner_says_that_it_waits_for_others():
    reporter, text = make_reporter(width=100)
    reporter.on_event(OthersSeen(rows_done=10))
    assert text.getvalue() == ""

    reporter.on_event(OthersSeen(rows_done=10, awaited=2))

    assert text.getvalue() == "waiting for 2 shards that other runners have in hand …\n"


def make_opened(name="nightly", left=37, rows=42, parity=None, wished="auto"):
    return SimpleNamespace(
        prepared=SimpleNamespace(
            spec=SimpleNamespace(
                name=name, task="text-classification", backend=SimpleNamespace(workers=wished)
            ),
            backend=ArithmeticBackend(),
            inventory=Inventory((), pa.schema([])),
            cluster=None,
        ),
        plan=SimpleNamespace(
            rows=rows,
            shards=(1, 2),
            ladder=SimpleNamespace(shapes=(1,)),
            tokens_per_row=10.0,
        ),
        missing=(SimpleNamespace(rows=left), SimpleNamespace(rows=0)) if left else (),
        order=SimpleNamespace(record=SimpleNamespace(parity=parity), read_schema=pa.schema([])),
        workers=1,
    )


def make_reporter(width=60, **console):
    text = io.StringIO()
    return Reporter(Console(file=text, width=width, **console)), text


@pytest.mark.case(49)
def test_off_a_terminal_a_plain_line_now_and_then(monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr(progress, "time", clock)
    reporter, text = make_reporter()
    reporter.on_open(make_opened())
    opening = text.getvalue().splitlines()

    assert opening == [
        "nightly · text-classification · 42 rows in 2 shards · 1 shape · arithmetic float32 · 1 worker",
        "5 rows are done already, 37 are left",
    ]
    for clock.now in (101.0, 115.0, 131.0, 132.0, 160.0, 163.0):
        reporter.on_event(BatchDone(10))
    reporter.close()

    lines = text.getvalue().splitlines()[len(opening) :]
    assert [line.split(",")[0] for line in lines] == ["8%", "16%"]
    assert "\x1b" not in text.getvalue()


def test_on_a_terminal_a_bar_that_is_gone_afterwards():
    reporter, text = make_reporter(force_terminal=True)
    reporter.on_open(make_opened(left=42))
    reporter.on_event(BatchDone(210))
    reporter.close()
    reporter.close()

    assert "50%, 0 of 42 rows written" in text.getvalue()
    assert text.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K") or "\x1b[?25h" in text.getvalue()


def test_with_nothing_left_there_is_no_bar():
    reporter, text = make_reporter(force_terminal=True)
    reporter.on_open(make_opened(left=0))
    reporter.close()

    assert "\x1b[?25" not in text.getvalue()


def test_compiling_counts_the_programs_that_are_there_already():
    reporter, text = make_reporter()
    for key, step in [
        ("a", "reused"),
        ("b", "started"),
        ("b", "compiled"),
        ("c", "waiting"),
        ("c", "fetched"),
    ]:
        seconds = 125.0 if step == "compiled" else 1.0
        note = "another process compiles it" if step == "waiting" else ""
        reporter.on_compile(CompileEvent(step, Shape(4, 8), key, seconds, note), 3)
    reporter.on_check(1)

    assert text.getvalue().splitlines() == [
        "compiling 2 of 3: shape 4x8 …",
        "compiled shape 4x8 in 2:05",
        "another process compiles it",
        "holding 1 program against the reference …",
    ]


def test_falling_back_says_why():
    reporter, text = make_reporter()
    reporter.on_fallback(ParityError("it does not agree\n    shape 4x8", "cpu bfloat16", "hint"))

    assert text.getvalue().startswith("warning: cpu bfloat16: it does not agree\n    shape 4x8\n")
    assert "takes float32" in text.getvalue()


@pytest.mark.parametrize(
    ("parity", "line"),
    [
        (None, None),
        (Parity("reference"), None),
        (Parity("off"), "not held against the reference: backend.parity_rows is 0"),
        (
            Parity(
                "measured", None, (ShapeAgreement("4x8", Agreement(64, None, None, 0.0021, 0.001, 0.992)),)
            ),
            "agrees with the reference: 64 rows, labels 99.2%, scores within 0.003",
        ),
        (
            Parity("measured", None, (ShapeAgreement("4x8", Agreement(1, 0.99998, 0.99999)),)),
            "agrees with the reference: 1 row, cosine of vectors at least 0.99998",
        ),
    ],
)
def test_what_the_gate_found_stands_under_the_job(parity, line):
    reporter, text = make_reporter()
    reporter.on_open(make_opened(left=42, parity=parity))
    reporter.close()

    assert text.getvalue().splitlines()[1:] == ([line] if line else [])


@pytest.mark.parametrize("name", ["a [b] c", "[/nightly]", "[red]x"])
def test_a_name_with_brackets_is_shown_as_it_is(name):
    reporter, text = make_reporter()
    reporter.on_open(make_opened(name))

    assert text.getvalue().startswith(f"{name} · ")


def test_a_core_that_is_given_up_is_told_once():
    reporter, text = make_reporter()
    reporter.on_open(make_opened(left=42))
    reporter.on_event(CoreRetired(3, "NRT_HW_ERR_NC_UE (1202) [nc3]"))

    assert text.getvalue().splitlines()[1:] == [
        "warning: core 3 gets no more work: NRT_HW_ERR_NC_UE (1202) [nc3]"
    ]


@pytest.mark.case(45)
@pytest.mark.parametrize(
    ("wished", "line"),
    [(4, "warning: 4 workers were asked for, and there is 1 core"), (1, None), ("auto", None)],
)
def test_fewer_cores_than_asked_for_are_told(wished, line):
    reporter, text = make_reporter(width=100)
    reporter.on_open(make_opened(left=42, wished=wished))

    assert text.getvalue().splitlines()[1:] == ([line] if line else [])


def test_restarts_and_isolated_rows_are_in_the_line_and_told_when_they_happen():
    meter, console = Meter(40, 10.0), Console(file=io.StringIO(), width=200)
    events = [WorkerLost(1, "a worker died with signal SIGSEGV"), WorkerLost(1, "so")]
    events.append(RowIsolated(0, 17, "worker_crash", "it died of <this>"))
    reporter = Reporter(console)
    for event in events:
        meter.note(event, 0.0)
        reporter.on_event(event)

    assert meter.line() == "0%, 0 of 40 rows written, 0 rows/s, 1 row isolated, 2 restarts"
    said = console.file.getvalue()
    assert "core 1: a worker died with signal SIGSEGV" in said
    assert "row 17 is rejected: it died of <this>" in said
