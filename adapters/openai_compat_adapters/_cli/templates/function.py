async def agent(prompt: str):
    """Says what it is told, word by word. Call your model here, or do without one."""
    yield "You said:"
    for word in prompt.split():
        yield f" {word}"
