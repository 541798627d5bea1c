"""The stages of one shard, in the order its rows go through them.

runner.py             all of them, on one screen
columns.py            which columns are read, and which are carried through
tokenize.py           texts to tokens; cut, split or rejected at the longest shape (fast_tokenizer.py)
encode.py, items.py   rows to items, and the rows that cannot be predicted set aside
gather.py, holes.py   items of a whole shard to batches, all of them or without some
execute.py            batches through the device
canary.py             a device that answers the same to everything
decode.py, write.py   what came back to a table, and the table to one Parquet file
"""
