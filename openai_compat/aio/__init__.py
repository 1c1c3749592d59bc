"""Event-loop building blocks that know nothing of agents: timers, background tasks, work in threads, and subprocesses."""
