"""What `serve` changes in uvicorn."""
