"""Decision requests and responses on the wire."""
