"""The run folder: what its files are called and say, how they come to be, what is read back.

run_names.py, run_record.py   names and contents, one record per kind of file
run_folder.py, plan_file.py   open, commit: each by one atomic create
finish.py                     the manifest, last
lease.py                      what other runners have in hand
found.py                      a run as its folder shows it, each thing read once
status.py, report.py          how far it is; what came out
verify.py, replay.py          is it whole, would it come out again
retry.py                      the rejected rows as a job of their own
leftover.py, sweep.py         what no run needs any more
"""
