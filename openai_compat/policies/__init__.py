"""Policies: small settings objects that limit what a server allows."""
