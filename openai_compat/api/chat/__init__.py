"""OpenAI's chat completions API, legacy completions among them."""
