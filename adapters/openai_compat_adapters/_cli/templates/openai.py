from openai_compat.backends.openai import OpenAIBackend

# Reads your key from OPENAI_API_KEY. For another server: base_url="http://localhost:11434/v1", api_key="none"
agent = OpenAIBackend("gpt-5.2", system="Answer in one sentence.")
