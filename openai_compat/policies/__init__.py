"""Small objects with which a server is told what it may and may not do."""
