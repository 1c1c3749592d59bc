"""openai-compat with its chat WebSocket: `app` for any ASGI server, `server` for `openai-compat serve`."""

from servers import agents

from openai_compat import ChatWebSocket, Limits, Server
from openai_compat_adapters.starlette import create_app

server = Server({"burst": agents.burst}, chat_websocket=ChatWebSocket(), limits=Limits(slots=2000))
app = create_app(server)
