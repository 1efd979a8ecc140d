"""Answers with the limit of descriptors on a port that it prints, while TAKEN are in use.

It prints 'busy' for each request for /wait, and answers these once a line of input has come.
"""

import asyncio
import os
import resource
import socket
import sys

from aiohttp import web

from serving.web.connections import Connections


async def main():
    go_on = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, go_on.set)

    async def handle(request):
        if request.path == '/wait':
            connections.answering(request)
            print('busy', flush=True)
            await go_on.wait()
        return web.Response(text=str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))

    connections = Connections(handle, 500, 60, 60)
    taken = [os.open('/dev/null', os.O_RDONLY) for _ in range(int(sys.argv[1]))]
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        async with connections.listening(listener, 1):
            print(listener.getsockname()[1], flush=True)
            await asyncio.sleep(60)
    for descriptor in taken:
        os.close(descriptor)


asyncio.run(main())
