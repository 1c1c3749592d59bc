"""Agents below a prefix of a Flask application with other routes.

Serve it:   gunicorn --threads 8 flask_app:app
"""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from openai_compat import Server
from openai_compat_adapters.wsgi import create_wsgi_app


def agent(prompt: str):  # a plain function runs in its own thread
    yield "You said: "
    yield prompt


app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ai": create_wsgi_app(Server({"echo": agent}))})


@app.get("/")
def index():
    return {"chat": "/ai/v1/chat/completions"}
