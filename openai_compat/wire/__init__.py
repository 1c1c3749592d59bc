"""Bytes to typed requests, and events to bytes. No I/O, no clock, no event loop."""
