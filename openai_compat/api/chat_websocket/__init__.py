"""The chat WebSocket, which `Server(chat_socket=ChatSocket())` serves."""
