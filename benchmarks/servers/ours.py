"""openai-compat as users set it up, with slots for every measured stream."""

from servers import agents

from openai_compat import Limits, Server
from openai_compat_adapters.starlette import create_app

server = Server(
    {name: getattr(agents, name) for name in ("burst", "paced", "idle", "plain", "history")},
    limits=Limits(slots=2000),
)
app = create_app(server)
