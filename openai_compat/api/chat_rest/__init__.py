"""The chat REST API: `/api/chat`, which `Server(chat_rest=ChatRest())` serves."""
