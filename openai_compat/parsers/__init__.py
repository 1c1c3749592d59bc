"""Bytes and headers to requests for agents: the mirror of `serializers`."""
