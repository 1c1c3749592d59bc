"""The chat WebSocket, which `Server(chat_websocket=ChatWebSocket())` serves."""
