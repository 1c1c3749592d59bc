"""Chat completions: types, parsers, serializers."""
