"""Discovery: what the user set, then neuron-ls, then /dev and the family, on machines made of folders."""

import pytest

from batchneuron.backends.neuron_chips import find_instance, name_family
from batchneuron.backends.neuron_devices import (
    Wishes,
    choose_logical_core_size,
    discover,
    find_family,
    find_holders,
    is_neuron_machine,
)
from batchneuron.backends.neuron_ls import parse_devices, parse_numbers
from batchneuron.errors import BackendError
from tests.backends.neuron_machines import GIB, inf2_48xlarge, make_places, set_listed, trn2_48xlarge


@pytest.fixture(autouse=True)
def _no_tools(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def find(places, *, size="auto", target="auto", **environ):
    return discover(Wishes(environ, target, size), places)


def indices(devices):
    return [core.index for core in devices.cores]


def test_neuron_ls_tells_of_an_inf2(tmp_path):
    places = make_places(tmp_path, devices=12, instance_type="inf2.48xlarge", listed=inf2_48xlarge())
    devices = find(places)
    assert indices(devices) == list(range(24))
    assert (devices.instance_type, devices.family, devices.found_by) == ("inf2.48xlarge", "inf2", "neuron-ls")
    assert (devices.device_count, devices.memory_bytes) == (12, 384 * GIB)
    assert (devices.logical_core_size, devices.has_driver) == (1, True)
    assert devices.cores[13].device == 6
    assert devices.cores[13].cpus == (*range(48, 96), *range(144, 192))


@pytest.mark.parametrize(("listed_size", "size", "cores"), [(2, 2, 64), (1, 1, 128), (2, 1, 128), (1, 2, 64)])
def test_trn2_cores_are_counted_in_the_size_that_is_used(tmp_path, listed_size, size, cores):
    """Told in another size, devices keep their places: 8 // size cores each, from 0 on."""
    places = make_places(tmp_path, devices=16, listed=trn2_48xlarge(listed_size))
    devices = find(places, size=size)
    assert indices(devices) == list(range(cores))
    assert [core.device for core in devices.cores] == [index // (8 // size) for index in range(cores)]
    assert (devices.family, devices.logical_core_size, devices.memory_bytes) == ("trn2", size, 1536 * GIB)


@pytest.mark.parametrize(
    ("instance_type", "nodes", "size", "cores"),
    [
        ("inf2.xlarge", 1, "auto", 2),
        ("trn1n.32xlarge", 16, "auto", 32),
        ("trn2.3xlarge", 1, "auto", 4),
        ("trn2u.48xlarge", 16, 1, 128),
        ("trn3gen9.ultra", 4, "auto", 16),
    ],
)
def test_without_the_tool_the_family_says_how_many_cores(tmp_path, instance_type, nodes, size, cores):
    devices = find(make_places(tmp_path, devices=nodes, instance_type=instance_type), size=size)
    assert indices(devices) == list(range(cores))
    assert devices.found_by == "/dev/neuron*"


def test_the_driver_names_the_instance_where_the_firmware_does_not(tmp_path):
    places = make_places(tmp_path, devices=1)
    told = places.sys / "devices/virtual/neuron_device/neuron0/info/architecture/instance_type"
    told.parent.mkdir(parents=True)
    told.write_text("trn1.2xlarge\n")
    assert find_family(places) == "trn1"
    assert indices(find(places)) == [0, 1]


def test_devices_of_an_unknown_kind_are_an_error_until_the_spec_says(tmp_path):
    places = make_places(tmp_path, devices=2)
    with pytest.raises(BackendError, match=r"2 Neuron devices.*\n.*backend.target"):
        find(places)
    assert indices(find(places, target="inf2")) == [0, 1, 2, 3]


def test_no_device_is_no_error(tmp_path):
    devices = find(make_places(tmp_path))
    assert (devices.cores, devices.family, devices.found_by, devices.has_driver) == ((), None, "", False)


@pytest.mark.parametrize(
    ("visible", "cores"), [("3", [3]), ("4-7", [4, 5, 6, 7]), ("0,5,2", [0, 2, 5]), ("1-2, 9", [1, 2, 9])]
)
def test_visible_cores_are_taken_as_they_are(tmp_path, visible, cores):
    places = make_places(tmp_path, devices=12, instance_type="inf2.48xlarge", listed=inf2_48xlarge())
    devices = find(places, NEURON_RT_VISIBLE_CORES=visible, NEURON_RT_NUM_CORES="1")
    assert indices(devices) == cores
    assert devices.found_by == "NEURON_RT_VISIBLE_CORES"
    assert [core.device for core in devices.cores] == [core // 2 for core in cores]


@pytest.mark.parametrize("visible", ["24", "0-24", "x", "3-", "-1", "0,,1", "0-99999999999"])
def test_visible_cores_that_do_not_exist_are_refused(tmp_path, visible):
    places = make_places(tmp_path, instance_type="inf2.48xlarge", listed=inf2_48xlarge())
    with pytest.raises(BackendError, match=r"NEURON_RT_VISIBLE_CORES.*there are 0-23"):
        find(places, NEURON_RT_VISIBLE_CORES=visible)


def test_num_cores_are_the_first_ones(tmp_path):
    places = make_places(tmp_path, devices=1, instance_type="trn1.2xlarge")
    assert indices(find(places, NEURON_RT_NUM_CORES="1")) == [0]
    assert indices(find(places, NEURON_RT_NUM_CORES="0")) == [0, 1]
    with pytest.raises(BackendError, match="NEURON_RT_NUM_CORES: '3' cores are asked for, and there are 2"):
        find(places, NEURON_RT_NUM_CORES="3")


def test_the_logical_core_size_comes_from_the_first_that_says(tmp_path):
    """The spec, the variable, its older name, the host's file, neuron-ls, the family."""
    places = make_places(tmp_path / "a", core_size="1", listed=trn2_48xlarge(2))
    new, old = {"NEURON_LOGICAL_NC_CONFIG": "1"}, {"NEURON_RT_VIRTUAL_CORE_SIZE": "2"}
    assert choose_logical_core_size(Wishes(new, logical_core_size=2), places, "trn2") == 2
    assert choose_logical_core_size(Wishes({**new, **old}), places, "trn2") == 1
    assert choose_logical_core_size(Wishes(old), places, "trn2") == 2
    assert find(places).logical_core_size == 1
    assert find(make_places(tmp_path / "b", listed=trn2_48xlarge(1))).logical_core_size == 1
    assert choose_logical_core_size(Wishes({}), make_places(tmp_path / "c"), "trn3") == 2


def test_a_size_that_the_family_lacks_is_refused(tmp_path):
    with pytest.raises(BackendError, match=r"backend.logical_core_size: a logical core of 2.*inf2 has 1"):
        find(make_places(tmp_path, devices=1, instance_type="inf2.xlarge"), size=2)


def test_a_machine_is_known_by_its_devices_its_firmware_or_its_tool(tmp_path):
    assert is_neuron_machine(make_places(tmp_path / "a", devices=1))
    assert is_neuron_machine(make_places(tmp_path / "b", instance_type="inf2.xlarge"))
    assert is_neuron_machine(make_places(tmp_path / "c", listed=trn2_48xlarge(2)))
    assert not is_neuron_machine(make_places(tmp_path / "d", instance_type="m7i.large", listed="no devices"))


def test_holders_are_those_of_the_cores_device(tmp_path):
    listed = inf2_48xlarge()
    listed[3]["neuron_processes"] = [
        {"pid": 4711, "command": "python serve.py", "neuron_runtime_version": "2"}
    ]
    places = make_places(tmp_path, listed=listed)
    assert [str(holder) for holder in find_holders(7, places)] == ["pid 4711 (python serve.py)"]
    assert find_holders(8, places) == ()
    assert find(places, target="inf2").cores[6].holders[0].pid == 4711


def test_what_neuron_ls_prints_is_read_leniently():
    old = (
        '[2026-11-22] a line of a log\n[{"nc_count": "2", "neuron_processes": null}, {"nc_count": 2}, {}, 3]'
    )
    devices = parse_devices(old)
    assert [(device.index, device.core_ids) for device in devices] == [(0, (0, 1)), (1, (2, 3))]
    assert devices[0].memory_bytes is None
    assert parse_devices("neuron-ls: no neuron device found") == ()
    assert parse_devices('[{"nc_count": 2') == ()
    assert parse_devices('{"error": "driver"}') == ()


def test_a_tool_that_fails_counts_as_none(tmp_path):
    places = make_places(tmp_path, devices=1, instance_type="inf2.xlarge", listed=[])
    assert find(places).found_by == "/dev/neuron*"
    set_listed(places, "Segmentation fault")
    assert indices(find(places)) == [0, 1]
    (places.sdk / "bin/neuron-ls").write_text("not a program")
    assert indices(find(places)) == [0, 1]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8", (0, 1, 2, 3, 8)), ("5", (5,)), ("", ()), ("3-1", ()), ("a", ()), ("1-2-3", ())],
)
def test_lists_of_numbers(text, numbers):
    assert parse_numbers(text) == numbers


def test_families_and_instances():
    names = [
        "inf2.xlarge",
        "TRN1N.32xlarge",
        "trn2u.48xlarge",
        "trn3.whatever",
        "inf1.xlarge",
        "g5.xlarge",
        "",
    ]
    assert [name_family(name) for name in names] == ["inf2", "trn1n", "trn2", "trn3", None, None, None]
    big = find_instance("inf2.48xlarge")
    assert big is not None
    assert (big.chips, big.vcpus, big.host_bytes, big.on_demand_usd_per_hour) == (
        12,
        192,
        768 * GIB,
        12.98127,
    )
    assert find_instance("trn3.whatever") is None
