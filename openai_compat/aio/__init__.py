"""Timers, background tasks, work beside the event loop, and subprocesses: the parts that know an event loop and nothing of agents."""
