"""Events to wire objects to bytes: the mirror of `parsers`."""
