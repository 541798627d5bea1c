"""The simulated neuronx-cc: a process that refuses what the real one refuses, takes its time, and is counted.

Flags: SDK `compiler/neuronx-cc/api-reference-guide`.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from simulated_nrt.faults import die, is_due, read_fault
from simulated_nrt.machine import ARCHITECTURES, count, log, read_machine

VERSION = "2.28.7631.0"
LOG = "log-neuron-cc.txt"
_SWITCHES = {
    "--enable-saturate-infinity",
    "--enable-mixed-precision-accumulation",
    "--disable-mixed-precision-accumulation",
    "--enable-fast-loading-neuron-binaries",
    "--enable-fast-context-switch",
}
_VALUES = {
    "--framework": {"XLA"},
    "--target": {"inf2", "trn1", "trn1n", "trn2", "trn3"},
    "--model-type": {"generic", "transformer", "unet-inference"},
    "--auto-cast": {"none", "matmult", "all"},
    "--auto-cast-type": {"bf16", "fp16", "tf32", "fp8_e4m3"},
    "--optlevel": {"1", "2", "3"},
    "--logical-nc-config": {"1", "2"},
    "--native-int64": {"default", "enabled", "disabled"},
    "--logfile": None,
    "--verbose": None,
    "--cache_dir": None,
}
_SHORT = {"-O": "--optlevel", "-lnc": "--logical-nc-config", "--lnc": "--logical-nc-config"}


class CompilerRefused(Exception):
    """Flags that the compiler does not take."""


def parse_flags(words):
    """Flags as a dictionary of full names.

    Raises:
        CompilerRefused: one that does not exist, or with a value it does not take.
    """
    flags, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name.startswith("-O") and name != "-O":
            name, equals, value = "-O", "=", name[2:]
        name = _SHORT.get(name, name)
        if name in _SWITCHES and not equals:
            flags[name] = True
        elif name in _VALUES:
            if not equals:
                value = rest.pop(0) if rest else ""
            _require_value(name, value)
            flags[name] = value
        else:
            raise CompilerRefused(f"[NCC_EARG001] unrecognized argument: {word}")
    _require_fit(flags)
    return flags


def _require_value(name, value):
    allowed = _VALUES[name]
    if not value or (allowed is not None and value not in allowed):
        raise CompilerRefused(f"[NCC_EARG001] argument {name}: invalid value {value!r}")


def _require_fit(flags):
    target = flags.get("--target", "trn1")
    if "--logical-nc-config" in flags and ARCHITECTURES[target] < 3:
        raise CompilerRefused(f"[NCC_EARG001] --logical-nc-config is not supported on {target}")
    if flags.get("--native-int64", "default") == "enabled" and ARCHITECTURES[target] < 3:
        raise CompilerRefused(f"[NCC_EARG001] --native-int64 is not supported on {target}")


def run_compiler(flags, key, workdir):
    """Start neuronx-cc on a graph and wait for it.

    Raises:
        RuntimeError: it failed; the text has its exit code, and its log is in `workdir`.
    """
    fault = read_fault("compiler")
    if fault.get("victim") == "caller" and is_due("compiler", fault, count("compiler.callers")):
        die(fault["kind"])
    words = [
        sys.executable,
        "-m",
        "simulated_nrt.compiler",
        "compile",
        "--key",
        key,
        "--workdir",
        str(workdir),
    ]
    done = subprocess.run([*words, "--", *flags], capture_output=True, text=True)
    if done.returncode == 0:
        return
    if done.returncode == -9:
        raise RuntimeError(
            "[F137] neuronx-cc was forcibly killed - This most commonly occurs due to insufficient system "
            "memory. Using a smaller data type, dimensions, batch size, or a larger instance type may help."
        )
    raise RuntimeError(f"neuronx-cc failed with {done.returncode}\n{done.stderr}")


def main(words=None):
    parser = argparse.ArgumentParser(prog="neuronx-cc")
    parser.add_argument("--version", action="version", version=f"NeuronX Compiler version {VERSION}")
    commands = parser.add_subparsers(required=True)
    compile_ = commands.add_parser("compile")
    compile_.add_argument("--key", required=True)
    compile_.add_argument("--workdir", type=Path, required=True)
    compile_.add_argument("flags", nargs="*")
    arguments = parser.parse_args(words)
    logfile = arguments.workdir / LOG
    flags = arguments.flags
    try:
        parse_flags(flags)
    except CompilerRefused as error:
        return _fail(logfile, str(error), 70)
    time.sleep(read_machine().compile_s)
    fault = read_fault("compiler")
    if fault.get("victim") != "caller" and is_due("compiler", fault, count("compiler.runs")):
        die(fault["kind"])
        return _fail(logfile, fault.get("log", "[NCC_EVRF004] something is not supported"), 70)
    logfile.write_text(
        f"neuronx-cc {VERSION} compile {' '.join(flags)}\nCompilation successfully completed\n"
    )
    log("compile", key=arguments.key, flags=flags)
    return 0


def _fail(logfile, text, code):
    logfile.write_text(f"neuronx-cc {VERSION}\n{text}\n")
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
