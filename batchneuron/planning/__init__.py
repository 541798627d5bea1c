"""Planning: which rows make a shard, in which static shapes, and what it is expected to cost."""
