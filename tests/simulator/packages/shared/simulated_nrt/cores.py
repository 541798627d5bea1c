"""The cores of one process: which it may see, and that no other process has them.

A core is claimed by a lock on a file, which the kernel frees when the process ends and not before. The
variables are read once, when the module is imported.
"""

import fcntl
import os
import re
import sys

from simulated_nrt.faults import is_busy
from simulated_nrt.machine import log, read_logical_core_size, read_machine, state_folder

# The Python side says this for any failed start of the runtime (aws-neuron-samples issue 44).
NO_RUNTIME = "Neuron runtime cannot be initialized; cannot determine the number of available NeuronCores"


class Runtime:
    """What `nrt_init` keeps of a process."""

    def __init__(self, environment=os.environ):
        self._visible = environment.get("NEURON_RT_VISIBLE_CORES", "")
        self._number = environment.get("NEURON_RT_NUM_CORES", "")
        self.timeout_s = float(environment.get("NEURON_RT_EXEC_TIMEOUT") or 30)
        self.logical_core_size = read_logical_core_size(environment)
        self.allows_legacy = environment.get("NEURON_RT_ALLOW_LEGACY_NEFF", "").lower() in ("1", "true")
        self.fails_on_nan = (
            environment.get("NEURON_FAIL_ON_NAN") == "1"
            or environment.get("NEURON_RT_NUMERICAL_ERRORS_VERBOSITY") == "critical"
        )
        self.owner = 0
        self.cores = ()
        self._locks = []
        self._turn = 0

    @property
    def is_initialized(self):
        return bool(self.cores)

    @property
    def is_forked(self):
        """Whether another process has initialised what this one has inherited."""
        return self.is_initialized and self.owner != os.getpid()

    def list_all(self):
        machine = read_machine()
        return tuple(range(machine.devices * machine.cores_per_device(self.logical_core_size)))

    def initialize(self):
        """Claim the visible cores, once; unset variables claim every core of the machine."""
        if self.is_initialized:
            return
        machine = read_machine()
        if not machine.family:
            _complain("Unable to determine Neuron Driver version. Please check aws-neuronx-dkms package")
            raise RuntimeError(NO_RUNTIME)
        cores = self._choose()
        self.cores, self.owner = cores, os.getpid()
        log("claim", cores=list(cores))

    def next_core(self):
        """Programs are spread over the visible cores in turn."""
        core = self.cores[self._turn % len(self.cores)]
        self._turn += 1
        return core

    def _choose(self):
        everything = self.list_all()
        if self._visible:
            wanted = parse_visible(self._visible)
            outside = [core for core in wanted if core not in everything]
            if outside:
                _refuse(wanted, 0)
            return self._claim(wanted)
        number = int(self._number or 0)
        if number == 0:
            return self._claim(everything)
        for first in range(len(everything) - number + 1):
            if self._try(everything[first : first + number]):
                return everything[first : first + number]
        return _refuse(everything[:number], 0)

    def _claim(self, cores):
        if not self._try(cores):
            _refuse(cores, sum(not _is_held(core) for core in cores))
        return cores

    def _try(self, cores):
        taken = []
        for core in cores:
            handle = os.open(_lock_path(core), os.O_RDWR | os.O_CREAT)
            taken.append(handle)
            try:
                if is_busy(core):
                    raise BlockingIOError
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.pwrite(handle, f"{os.getpid():<12}".encode(), 0)
            except BlockingIOError:
                for each in taken:
                    os.close(each)
                return False
        self._locks += taken
        return True


def parse_visible(text):
    """Core numbers of `3`, `0-3` or `0,2`."""
    cores = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", piece)
        if match is None:
            _complain(f"Invalid NEURON_RT_VISIBLE_CORES: {text}")
            raise RuntimeError(NO_RUNTIME)
        first, last = int(match[1]), int(match[2] or match[1])
        cores += range(first, last + 1)
    return tuple(cores)


def find_owner(core):
    """Process that holds a core, or None."""
    if not _is_held(core):
        return None
    return int(_lock_path(core).read_text() or 0)


def _is_held(core):
    try:
        handle = os.open(_lock_path(core), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_path(core):
    folder = state_folder() / "cores"
    folder.mkdir(exist_ok=True)
    return folder / f"{core}.lock"


def _refuse(wanted, available):
    _complain(
        f"nrt_allocate_neuron_cores NeuronCore(s) not available - "
        f"Requested:nc{wanted[0]}-nc{wanted[-1]} Available:{available}",
        source="NRT:",
    )
    log("refused", cores=list(wanted))
    raise RuntimeError(NO_RUNTIME)


def _complain(text, source="TDRV:"):
    """The runtime writes to the console; Python gets less."""
    sys.stderr.write(f"ERROR {source}{text}\n")
    sys.stderr.flush()
