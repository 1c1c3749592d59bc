"""Items of the Responses API, in which conversations are kept."""
