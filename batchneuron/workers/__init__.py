"""Workers: one process for each core, told what to do, watched, and replaced.

events.py, work_order.py         what crosses the process border
ticket.py                        what a runner knows of others that were started with it
handout.py, stretches.py         which shard is next; what is left of them
worker.py, pulse.py              the process: three threads, a stage each; and where it is
crew.py, worker_process.py       where workers come from; processes of this machine
supervise.py, member.py          starts, feeds, listens, replaces; one of its workers
roster.py                        which cores get a worker, and which no more
watchdog.py                      who has come to a stand
docket.py, case.py, isolate.py   shards that kill workers, and which row it is
aside.py, rebuild.py             one call in a process of its own, and its error brought home
"""
