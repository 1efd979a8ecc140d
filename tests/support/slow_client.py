"""A client with room for few bytes, which reads slowly or not at all."""

import asyncio
import contextlib
import socket


@contextlib.asynccontextmanager
async def slow_client(address):
    """Yields a connected socket, which is not blocking; unread answers pile up in the server."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, address)
        yield client
