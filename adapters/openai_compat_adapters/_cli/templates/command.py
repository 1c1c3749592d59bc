from openai_compat.backends.subprocess import SubprocessBackend

# Any program that reads a prompt and writes an answer. Claude Code, with its tools and its thinking shown:
# SubprocessBackend(["claude", "-p", "--output-format", "stream-json", "--verbose"], output="claude")
agent = SubprocessBackend(["tr", "a-z", "A-Z"])
