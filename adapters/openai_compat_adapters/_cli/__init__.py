"""The commands `serve` and `chat`, and the options that they take."""
