async def agent(prompt: str):
    """Repeats your message, word by word. Call a model here, or do without one."""
    yield "You said:"
    for word in prompt.split():
        yield f" {word}"
