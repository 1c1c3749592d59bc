"""Where state is kept: one port, and the engines behind it."""
