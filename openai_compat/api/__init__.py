"""The part that does I/O: one folder per API, plus the code that the APIs share."""
