"""The agents that the other files in this folder serve. Replace them with your own."""


async def assistant(messages: list[dict[str, str]]):
    said = [message["content"] for message in messages if message["role"] == "user"]
    yield f"You have said {len(said)} thing{'s' if len(said) > 1 else ''}, "
    yield f"the last one was: {said[-1]}"


agents = {"assistant": assistant}
