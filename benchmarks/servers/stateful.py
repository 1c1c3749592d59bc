"""openai-compat with the store at the URL in $STORE."""

import os

from servers import agents

from openai_compat import Limits, Server
from openai_compat_adapters.starlette import create_app

app = create_app(
    Server(
        {"burst": agents.burst, "paced": agents.paced, "plain": agents.plain},
        store=os.environ["STORE"],
        limits=Limits(slots=2000),
    )
)
