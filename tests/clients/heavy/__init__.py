"""Whole programs as clients, which take a gigabyte each: `nox -s open_webui home_assistant` runs them, CI does not."""
