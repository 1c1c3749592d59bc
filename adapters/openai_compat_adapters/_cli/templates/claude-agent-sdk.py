from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool


@tool("get_weather", "The weather in a city, now.", {"city": str})
async def get_weather(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"Sunny in {arguments['city']}."}]}


agent = ClaudeAgentOptions(
    system_prompt="Answer in one sentence.",
    tools=[],  # no built-in tools of Claude Code, such as Bash
    allowed_tools=["mcp__weather__get_weather"],
    mcp_servers={"weather": create_sdk_mcp_server("weather", tools=[get_weather])},
    setting_sources=[],  # ignore the settings on this machine
)
