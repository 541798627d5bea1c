"""The stages of one shard, in the order its rows go through them; runner.py is all of it on one screen."""
