"""An MCP server on a free port of 127.0.0.1, made of nothing but the SDK that is installed. Prints its port.

SDK: fastmcp, or mcp. TRANSPORT: http, sse, ws. TOKEN: the one that it asks for. HOSTS: the only ones that it knows.
TOOLS: how many. STATELESS, JSON: its own words.
"""

import asyncio
import gc
import importlib.metadata
import os
import socket

import uvicorn
from starlette.routing import Route

SDK, TRANSPORT = os.environ["SDK"], os.environ.get("TRANSPORT", "http")
TOKEN, HOSTS = os.environ.get("TOKEN"), os.environ.get("HOSTS")
STATELESS, JSON = "STATELESS" in os.environ, "JSON" in os.environ
MAJOR = int(importlib.metadata.version(SDK).split(".")[0])


def search(query: str) -> str:
    """Finds things."""
    if query == "fail":
        raise ValueError("nothing to find it in")
    return query


def with_tools(server):
    for number in range(int(os.environ.get("TOOLS", "2"))):
        server.tool(name="search" if number == 0 else f"search-{number}")(search)
    return server


def fastmcp():
    from fastmcp import FastMCP

    auth = None
    if TOKEN:
        from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

        auth = StaticTokenVerifier(tokens={TOKEN: {"client_id": "probe", "scopes": []}})
    server = with_tools(FastMCP("foreign", auth=auth))
    if TRANSPORT == "sse":
        return server.http_app(path="/sse", transport="sse")
    more = {"allowed_hosts": HOSTS.split(","), "host_origin_protection": True} if HOSTS else {}
    return server.http_app(path="/mcp", stateless_http=STATELESS, json_response=JSON, **more)


def official():
    from mcp.server.transport_security import TransportSecuritySettings

    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=bool(HOSTS), allowed_hosts=(HOSTS or "").split(",")
    )
    auth = {}
    if TOKEN:
        from mcp.server.auth.provider import AccessToken
        from mcp.server.auth.settings import AuthSettings

        class Verifier:
            async def verify_token(self, token):
                return AccessToken(token=token, client_id="probe", scopes=[]) if token == TOKEN else None

        there = "http://127.0.0.1:1"
        auth = {"token_verifier": Verifier(), "auth": AuthSettings(issuer_url=there, resource_server_url=there)}
    if MAJOR >= 2:
        from mcp.server.mcpserver import MCPServer

        server = with_tools(MCPServer("foreign", **auth))
        if TRANSPORT == "sse":
            return server.sse_app(transport_security=security)
        return server.streamable_http_app(
            stateless_http=STATELESS, json_response=JSON, transport_security=security
        )
    from mcp.server.fastmcp import FastMCP

    server = with_tools(
        FastMCP(
            "foreign", stateless_http=STATELESS, json_response=JSON, transport_security=security, **auth
        )
    )
    if TRANSPORT == "ws":
        from mcp.server.websocket import websocket_server
        from starlette.applications import Starlette
        from starlette.routing import WebSocketRoute

        async def serve(socket):
            inner = server._mcp_server
            async with websocket_server(socket.scope, socket.receive, socket.send) as (read, write):
                await inner.run(read, write, inner.create_initialization_options())

        return Starlette(routes=[WebSocketRoute("/ws", serve)])
    return server.sse_app() if TRANSPORT == "sse" else server.streamable_http_app()


def sessions(_):
    """How many the SDK keeps."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.responses import JSONResponse

    managers = [thing for thing in gc.get_objects() if isinstance(thing, StreamableHTTPSessionManager)]
    return JSONResponse(sum(len(manager._server_instances) for manager in managers))


listener = socket.socket(proto=socket.IPPROTO_TCP)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(128)
app = fastmcp() if SDK == "fastmcp" else official()
app.router.routes.append(Route("/sessions", sessions))
print(f"port {listener.getsockname()[1]}", flush=True)
server = uvicorn.Server(uvicorn.Config(app, log_level=os.environ.get("LOG", "warning")))
asyncio.run(server.serve(sockets=[listener]))
