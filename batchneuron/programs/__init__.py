"""Programs: built, compiled once, and held against the reference before they are believed.

program.py                the torch module: encoder plus the task's head
attention.py              masks and attention in a form that every compiler takes
signature.py              what a program takes, and the check that it gets just that
compile.py                every missing shape (precompile.py: ahead of the run)
compiler.py               the process that compiles one
measure.py, compare.py    the same rows by the program and by the reference, side by side
agreement.py, parity.py   how far they must agree, and the gate
calibrate.py              ranges for int8, found once for all workers
optimum_folder.py         folders that optimum-neuron compiled
"""
