"""The half with I/O: a folder for each API, and what the APIs share."""
