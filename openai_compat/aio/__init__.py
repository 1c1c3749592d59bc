"""Timers, background tasks, worker threads and subprocesses: the parts that know an event loop and nothing of agents."""
