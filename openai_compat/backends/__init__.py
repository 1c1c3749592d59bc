"""Backends for real agents. Each stands alone: import the one you use. The core imports none of them."""
