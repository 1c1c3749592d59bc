"""The chat REST API: `/api/chat`, which `Server(chat_api=ChatApi())` serves."""
