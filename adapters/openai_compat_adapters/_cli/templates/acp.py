from openai_compat.backends.acp import ACPBackend

# Claude Code; or ["codex-acp"], ["gemini", "--acp"], ["opencode", "acp"], ["goose", "acp"]
agent = ACPBackend(["claude-agent-acp"])
