"""OpenAI's Responses API, over HTTP and over WebSockets."""
