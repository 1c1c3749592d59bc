"""Whole programs as clients, a gigabyte each: `nox -s open_webui home_assistant` runs them, CI does not."""
