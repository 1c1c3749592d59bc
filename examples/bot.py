"""A bot with an agent in the same process: no server, port or key, but all features of the server.

Run it:       python bot.py
Talk to it:   nc 127.0.0.1 7000        (each connection is a person with a separate conversation)

Bots for Slack, Discord or Telegram call `reply` in the same way, with the id of the channel.
"""

import asyncio
import itertools
import sys

import openai

from openai_compat import Conversations, Server
from openai_compat_adapters.client import async_openai


async def agent(messages: list[dict]):
    said = [message["content"] for message in messages if message["role"] == "user"]
    if said[-1] == "crash":
        raise RuntimeError("the log has this, and the person has not")
    yield f"You said {' and '.join(said)}."


server = Server({"parrot": agent}, conversations=Conversations(busy="queue"))


async def reply(client: openai.AsyncOpenAI, channel: str, text: str) -> str:
    """Return the agent's answer to a message in a channel. The server stores the channel's history."""
    said = [{"role": "user", "content": text}]
    try:
        answer = await client.chat.completions.create(
            model="parrot", messages=said, extra_headers={"X-Conversation-Id": channel}
        )
    except openai.APIStatusError as error:
        return f"Sorry: {error.body['message']}"
    return answer.choices[0].message.content or ""


async def main(port: int) -> None:
    numbers = itertools.count()
    async with async_openai(server) as client:

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = f"channel-{next(numbers)}"
            async for line in reader:
                answer = await reply(client, channel, line.decode().strip())
                writer.write(f"{answer}\n".encode())
                await writer.drain()
            writer.close()

        listener = await asyncio.start_server(talk, "127.0.0.1", port)
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7000))
