"""The chat REST API: types, parser, serializers."""
