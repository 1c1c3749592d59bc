"""OpenAI's chat completions API, including legacy completions."""
