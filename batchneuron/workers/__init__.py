"""Workers: one process for each core, watched, replaced, and told what to do next."""
