"""Planning: which rows make a shard, in which static shapes, and what that is expected to cost.

prepare.py       a spec to model, backend, source and columns; then to a plan
plan.py          shards: contiguous rows, cut between blocks; pure
spread.py        rows from all over the input, to judge it by; pure
shapes.py        one static (batch, length) pair, and a ladder of them; pure
ladder.py        the shapes that run a job in the least time, by dynamic programming; pure
cost.py          seconds of a batch, by shape; pure
forecast.py      padding to expect, the least possible, what one more shape would save; pure
fingerprint.py   one digest of everything that can change a prediction; pure
preview.py       `plan` and `--dry-run`: all of it told, nothing written
freeze.py        spec and plan settled before anything runs, for machines that start later
"""
