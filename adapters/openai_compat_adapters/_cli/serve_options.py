"""Values of the options of `openai-compat serve`; `options` has their help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from openai_compat.wire.presentation import Visibility

OLLAMA_ADDRESS = ("127.0.0.1", 11434)
"""Ollama's default address, which its clients use unless configured otherwise."""
DEMO_AGENTS = "openai_compat_adapters._cli.demo_agents:agents"
"""The target of `openai-compat demo`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """One field for each option; times are in seconds, sizes in bytes."""

    targets: tuple[str, ...]
    # agents
    agent: str | None
    max_idle_runtimes: int
    unknown_model: Literal["reject", "default"]
    # process
    listen: tuple[str, int]
    workers: int
    reload: bool
    grace: float
    working_dir: str | None
    env_from_file: tuple[str, ...]
    log_level: str
    log_format: Literal["text", "json"]
    no_tracebacks: bool
    # telemetry
    metrics: bool
    public_metrics: bool
    otel: bool
    # access
    api_key: str | None
    api_key_env: str | None
    api_key_file: str | None
    public_models: bool
    host_name: tuple[str, ...]
    proxy_auth: bool
    user_header: str | None
    trusted_proxy: tuple[str, ...]
    cors_origin: tuple[str, ...]
    # state
    store: str | None
    retention: float
    lease: float
    webhook: tuple[str, ...]
    webhook_secret_env: str | None
    # APIs
    chat_rest: bool
    chat_websocket: bool
    page: bool | None
    open_page: bool
    anthropic: bool
    ollama: bool
    # conversations
    conversations_max: int
    conversation_ttl: float
    history: Literal["full", "last-user"]
    system: Literal["accept", "ignore", "reject"]
    user: Literal["optional", "required"]
    on_disconnect: Literal["cancel", "finish", "detach"]
    replay_failures: float
    visibility: Visibility
    bare_paths: bool
    # limits
    max_request_size: int
    max_answer_size: int
    max_concurrency: int
    shared_concurrency: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    queue: float
    request_timeout: float
    background_timeout: float
    head_delay: float
    header_timeout: float
    body_timeout: float
    write_timeout: float
    idle_timeout: float
    ping: float
    heartbeat: float

    @property
    def is_demo(self) -> bool:
        """True for `openai-compat demo`, whose only option is the port."""
        return self.targets == (DEMO_AGENTS,)
