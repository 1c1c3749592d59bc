"""Agents below a prefix of a Django project: the `application` of its `asgi.py`.

Serve it:   uvicorn django_mount:application
"""

import django.conf
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint


def index(request):
    return JsonResponse({"chat": "/ai/v1/chat/completions"})


urlpatterns = [path("", index)]

django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])  # projects have a settings module


async def agent(prompt: str):
    yield f"You said: {prompt}"


server = Server({"echo": agent})

application = Starlette(
    routes=[Mount("/ai", endpoint(server)), Mount("/", get_asgi_application())],
    lifespan=lambda app: server.lifespan(),
)
