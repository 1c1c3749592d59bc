"""One run of an agent, for every API."""
