"""What the doctor says of a machine, from facts alone; `tests/test_cli_machine.py` has the commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchneuron.backends.neuron_chips import find_instance
from batchneuron.backends.neuron_devices import Devices, NeuronCore, Places
from batchneuron.backends.neuron_ls import Holder
from batchneuron.backends.neuron_stack import Stack
from batchneuron.backends.survey import Disk, Hub, Neuron, Survey, survey_machine
from batchneuron.doctor import examine_job, examine_machine
from batchneuron.errors import BackendError
from batchneuron.showing.render_machine import render_checks, render_devices, show_range

GIB = 1 << 30
NO_STACK = Stack("none", {"torch": "2.14.1"})
STUB = Stack("stub", {"torch-neuronx": "1.0", "neuronx-cc": "1.0.post1"})
TRACE = Stack("trace", {"torch-neuronx": "2.9.0.2.15.32035", "neuronx-cc": "2.28.7631.0", "torch": "2.9.1"})
NATIVE = Stack("native", {"torch-neuronx": "2.14.3.0.1", "neuronx-cc": "2.28.7631.0", "torch": "2.14.0"})
TOOLS = ("neuron-ls", "neuronx-cc", "libneuronpjrt-path")
NO_DEVICES = Devices(None, None, (), 1, 0, 0, "", False)


def make_cpu() -> Survey:
    """A healthy machine without Neuron."""
    return Survey(
        python=(3, 12),
        system="Linux 6.8",
        cpus=8,
        cpu_target="x86_64-amx_bf16",
        has_bfloat16=True,
        memory_bytes=64 * GIB,
        open_files=65_535,
        cache=Disk(Path("/home/me/.cache/batchneuron/artifacts"), 100 * GIB, True),
        scratch=Disk(Path("/tmp"), 100 * GIB, True),
        hub=Hub(has_token=False, is_offline=False, cached_models=3),
        stack=NO_STACK,
        versions={"torch": "2.14.1", "transformers": "5.3.0", "openvino": "2026.4.1"},
        tools=dict.fromkeys(TOOLS),
        neuron=Neuron(NO_DEVICES, (), "", "", None, "a price file", None, (), False, "", ""),
    )


def make_inf2(**neuron) -> Survey:
    """A healthy inf2.24xlarge: 6 devices, 12 cores."""
    cores = tuple(NeuronCore(index, index // 2, (index // 2,)) for index in range(12))
    devices = Devices("inf2.24xlarge", "inf2", cores, 1, 6, 192 * GIB, "neuron-ls", True)
    side = Neuron(
        devices,
        cores,
        "neuron-ls",
        "",
        find_instance("inf2.24xlarge"),
        "a price file",
        "2.31.7.0",
        (),
        True,
        "",
        "",
    )
    tools = {name: f"/opt/aws/neuron/bin/{name}" for name in TOOLS}
    return replace(make_cpu(), stack=TRACE, tools=tools, neuron=replace(side, **neuron))


def make_trn2(**neuron) -> Survey:
    cores = tuple(NeuronCore(index, index // 4) for index in range(64))
    devices = Devices("trn2.48xlarge", "trn2", cores, 2, 16, 1536 * GIB, "neuron-ls", True)
    inf2 = make_inf2()
    side = replace(inf2.neuron, devices=devices, everything=cores, instance=find_instance("trn2.48xlarge"))
    return replace(inf2, stack=NATIVE, neuron=replace(side, **neuron))


def hold(survey: Survey, *device_numbers: int) -> Survey:
    """The machine with a process on some devices."""
    cores = tuple(
        replace(core, holders=(Holder(4242, "python"),)) if core.device in device_numbers else core
        for core in survey.neuron.everything
    )
    devices = replace(survey.neuron.devices, cores=cores)
    return replace(survey, neuron=replace(survey.neuron, devices=devices, everything=cores))


@pytest.mark.parametrize("survey", [make_cpu(), make_inf2(), make_trn2()], ids=["cpu", "inf2", "trn2"])
def test_a_healthy_machine_is_told_to_be_one(survey):
    checks = examine_machine(survey)
    assert [check for check in checks if check.state != "ok" or check.fix] == []
    assert len({check.name for check in checks}) == len(checks)


def test_a_machine_without_neuron_hears_nothing_of_its_tools():
    assert {"driver", "tools", "stack", "compiler", "cores"}.isdisjoint(
        check.name for check in examine_machine(make_cpu())
    )


DRIVERLESS = Devices("inf2.xlarge", "inf2", (), 1, 0, 0, "", False)
TROUBLE = BackendError("'9' names no such cores; there are 0-3", "NEURON_RT_VISIBLE_CORES", "unset it")


@pytest.mark.parametrize(
    ("survey", "name", "state", "told"),
    [
        (replace(make_cpu(), python=(3, 14)), "python", "problem", "python3.12 -m venv"),
        (replace(make_trn2(), python=(3, 11)), "python", "warning", "3.12 and later"),
        (replace(make_cpu(), versions={}), "libraries", "problem", "pip install . in the folder of"),
        (
            replace(make_cpu(), versions={"torch": "2", "transformers": "5"}),
            *("openvino", "warning", "pip install '.[cpu]'"),
        ),
        (replace(make_cpu(), memory_bytes=GIB), "memory", "warning", "1.0 GiB available"),
        (replace(make_cpu(), open_files=256), "open files", "warning", "ulimit -n 1024"),
        (replace(make_inf2(), open_files=1024), "open files", "warning", "ulimit -n 65535"),
        (
            replace(make_cpu(), cache=Disk(Path("/ro"), GIB, False)),
            *("artifact cache", "problem", "XDG_CACHE_HOME"),
        ),
        (
            replace(make_inf2(), cache=Disk(Path("/small"), 5 * GIB, True)),
            *("artifact cache", "warning", "5.0 GiB free in /small"),
        ),
        (replace(make_cpu(), scratch=Disk(Path("/tmp"), 0, True)), "scratch", "warning", "export TMPDIR="),
        (replace(make_cpu(), hub=Hub(True, True, 0)), "models", "warning", "unset HF_HUB_OFFLINE"),
        (replace(make_cpu(), stack=STUB), "stack", "warning", "pip uninstall -y torch-neuronx"),
        (
            replace(make_inf2(), stack=STUB),
            *("stack", "problem", 'pip install "torch-neuronx==2.9.0.2.15.32035"'),
        ),
        (replace(make_inf2(), stack=NATIVE), "stack", "problem", "torch-neuronx==2.9.0.2.15.32035"),
        (replace(make_trn2(), stack=TRACE), "stack", "problem", "torch-neuronx==2.14.*"),
        (replace(make_cpu(), stack=TRACE), "stack", "ok", "can compile for others"),
        (
            replace(make_inf2(), stack=Stack("trace", {"torch-neuronx": "2.9.0", "torch": "2.9.1"})),
            *("compiler", "warning", '"neuronx-cc==2.*"'),
        ),
        (
            replace(make_trn2(), stack=Stack("native", {"torch-neuronx": "2.14.3", "torch": "2.14.0"})),
            *("compiler", "problem", "the very version that they were compiled with"),
        ),
        (
            replace(make_cpu(), stack=Stack("native", {"torch-neuronx": "2.14.3", "torch": "2.14.0"})),
            *("compiler", "warning", '"neuronx-cc==2.*"'),
        ),
        (
            replace(make_inf2(), tools={**dict.fromkeys(TOOLS), "neuron-ls": "/x", "neuronx-cc": "/x"}),
            *("runtime plugin", "problem", "source .venv/bin/activate"),
        ),
        (
            replace(make_inf2(), tools=dict.fromkeys(TOOLS)),
            *("tools", "warning", "sudo apt-get install -y aws-neuronx-tools"),
        ),
        (replace(make_inf2(), memory_bytes=8 * GIB), "compile memory", "warning", "backend.artifacts"),
        (
            make_inf2(devices=DRIVERLESS, everything=(), driver=None, found_by=""),
            *("driver", "problem", "sudo apt-get install -y aws-neuronx-dkms"),
        ),
        (make_inf2(devices=DRIVERLESS, everything=()), "devices", "problem", "--device=/dev/neuron0"),
        (make_inf2(driver=None), "driver", "warning", "neuron-ls lists devices all the same"),
        (
            make_inf2(driver="2.26.5.0"),
            "driver",
            "warning",
            "on the host, sudo apt-get install -y aws-neuronx-dkms",
        ),
        (make_inf2(driver="2.9"), "driver", "warning", "above 2.26"),
        (make_inf2(driver="2.27.0.0"), "driver", "ok", "2.27.0.0"),
        (make_inf2(driver="dkms"), "driver", "ok", "dkms"),
        (
            make_inf2(has_runtime=False),
            *("runtime", "warning", "sudo apt-get install -y aws-neuronx-runtime-lib"),
        ),
        (make_inf2(trouble=TROUBLE), "devices", "problem", "NEURON_RT_VISIBLE_CORES: '9' names"),
        (make_inf2(closed_nodes=("/dev/neuron0",)), "device nodes", "problem", "stat -c %g /dev/neuron0"),
        (hold(make_inf2(), 1), "cores", "warning", "device 1: pid 4242 (python)"),
        (hold(make_inf2(), *range(6)), "cores", "problem", "kill 4242"),
        (
            make_trn2(host_core_size="2", asked_core_size="1"),
            *("logical cores", "warning", "unset NEURON_LOGICAL_NC_CONFIG"),
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(survey, name, state, told):
    check = next(check for check in examine_machine(survey) if check.name == name)
    assert check.state == state
    assert told in f"{check.told} {check.fix}"
    assert check.fix or state == "ok" or name == "driver"


def test_checks_are_one_line_each_and_their_cures_below():
    text = render_checks(examine_machine(replace(make_inf2(), stack=STUB)))
    assert "problem  stack           backend" in text
    assert '→ pip install "torch-neuronx==2.9.0.2.15.32035"' in text
    assert text.endswith("\n1 problem, 0 warnings")


def test_devices_are_shown_with_their_holders_price_and_what_is_left():
    survey = hold(make_inf2(narrowed_by="NEURON_RT_VISIBLE_CORES=2-5"), 1)
    ours = survey.neuron.everything[2:6]
    devices = replace(survey.neuron.devices, cores=ours)
    text = render_devices(replace(survey, neuron=replace(survey.neuron, devices=devices)))

    assert "inf2.24xlarge, found by neuron-ls" in text
    assert "6 x inf2, 192 GiB in all, driver 2.31.7.0" in text
    assert "12; NEURON_RT_VISIBLE_CORES=2-5 leaves 4: 2-5" in text
    assert "6.49 USD/h on demand, 2.80 USD/h reserved (a price file)" in text
    table = [line.split() for line in text.splitlines()[-6:]]
    assert table[0] == ["0", "0-1", "-", "0", "-"]
    assert table[1] == ["1", "2-3", "2-3", "1", "pid", "4242", "(python)"]


def test_a_machine_without_devices_shows_its_cpus():
    text = render_devices(make_cpu())
    assert text.splitlines() == [
        "machine  no Neuron device",
        "cpus     8 x x86_64-amx_bf16, bfloat16 in its own units",
        "memory   64 GiB available",
    ]


@pytest.mark.parametrize(("numbers", "shown"), [([], "-"), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8")])
def test_numbers_are_shown_as_ranges(numbers, shown):
    assert show_range(numbers) == shown


@pytest.fixture
def places(tmp_path):
    """A machine's files in a folder: two devices, a driver, a setting of the host."""
    for name, text in {
        "dev/neuron0": "",
        "dev/neuron1": "",
        "proc/devices": "Character devices:\n  1 mem\n240 neuron\n",
        "sys/module/neuron/version": "2.31.7.0\n",
        "sys/devices/virtual/dmi/id/product_name": "trn2.3xlarge\n",
        "sdk/logical_nc_config": "2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Places(tmp_path / "dev", tmp_path / "sys", tmp_path / "sdk")


def survey_at(places: Places) -> Survey:
    return survey_machine(places.sdk / "cache", places, places.dev.parent / "proc")


def test_a_survey_reads_devices_driver_and_settings(places, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "4-5")

    neuron = survey_at(places).neuron

    assert (neuron.driver, neuron.host_core_size, neuron.found_by) == ("2.31.7.0", "2", "/dev/neuron*")
    assert [core.index for core in neuron.everything] == list(range(8))
    assert [core.index for core in neuron.devices.cores] == [4, 5]
    assert neuron.narrowed_by == "NEURON_RT_VISIBLE_CORES=4-5"


def test_a_survey_looks_for_the_runtime_s_library(places):
    assert not survey_at(places).neuron.has_runtime
    (places.sdk / "lib").mkdir()
    (places.sdk / "lib/libnrt.so.1").touch()

    assert survey_at(places).neuron.has_runtime


def test_the_doctor_s_packages_are_those_of_the_page():
    page = (Path(__file__).parent.parent / "docs/neuron.md").read_text()
    bare = replace(make_inf2(has_runtime=False, driver="2.20"), tools=dict.fromkeys(TOOLS))
    fixes = " ".join(check.fix for check in examine_machine(bare))

    for package in (
        "aws-neuronx-runtime-lib",
        "aws-neuronx-collectives",
        "aws-neuronx-dkms",
        "aws-neuronx-tools",
    ):
        assert package in fixes and package in page


def test_a_survey_tells_what_cannot_be_instead_of_failing(places, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "99")

    neuron = survey_at(places).neuron

    assert neuron.trouble is not None and "99" in str(neuron.trouble)
    assert len(neuron.everything) == 8


def test_a_survey_notes_that_there_is_a_token_and_never_the_token(places, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
    survey = survey_at(places)
    assert survey.hub.has_token
    assert "hf_abc" not in repr(survey)


def states(checks):
    return {check.name: check.state for check in checks}


def test_a_job_that_can_run_here_is_told_to_be_one(make_spec):
    checks = examine_job(make_spec(), make_cpu())
    assert set(states(checks).values()) == {"ok"}
    told = {check.name: check.told for check in checks}
    assert told["input"] == "42 rows in 3 files"
    assert told["artifacts"].endswith("to be compiled")


@pytest.mark.parametrize(
    ("override", "name", "told"),
    [
        ("input.path=nowhere.parquet", "this job", "no such file"),
        ("model.id=./nowhere", "this job", "no such folder"),
        ("shapes.sequence_length=64", "spec", "the model takes 48"),
        ("backend.kind=neuron-trace", "this job", "there is no Neuron device here"),
    ],
)
def test_a_job_that_cannot_is_told_why(make_spec, override, name, told):
    last = examine_job(make_spec(override), make_cpu())[-1]
    assert (last.name, last.state) == (name, "problem")
    assert told in f"{last.told} {last.fix}"


def test_a_job_whose_workers_do_not_fit_is_told_how_many_do(make_spec):
    small = replace(make_cpu(), memory_bytes=2 * GIB)
    checks = examine_job(make_spec("backend.workers=64"), small)
    memory = next(check for check in checks if check.name == "worker memory")
    assert memory.state == "warning"
    assert memory.fix.startswith("set backend.workers: ")


def test_a_job_that_asks_for_another_core_size_than_the_hosts_is_warned(make_spec):
    checks = examine_job(make_spec("backend.logical_core_size=1"), make_trn2(host_core_size="2"))
    assert states(checks)["core size"] == "warning"
