"""The Responses API: types, parsers, serializers."""
