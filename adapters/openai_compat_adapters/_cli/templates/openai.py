from openai_compat.backends.openai import OpenAIBackend

# Your key is taken from OPENAI_API_KEY. Others speak the same API: base_url="http://localhost:11434/v1", api_key="none"
agent = OpenAIBackend("gpt-5.2", system="Answer in one sentence.")
