"""The version, in one place: the package, the wheel and the OpenAPI document read it here."""

__version__ = "0.1.0"
