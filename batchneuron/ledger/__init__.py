"""The run folder: what its files are called and say, how they come to be, and what is read back from them."""
