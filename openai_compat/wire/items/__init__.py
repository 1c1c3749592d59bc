"""Items of the Responses API, the format in which conversations are stored."""
