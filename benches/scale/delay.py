"""delay.py PORT UPSTREAM_PORT MILLISECONDS - relays TCP on this machine; each direction takes half of the milliseconds.

A delay line: it takes no throughput. A connection is accepted after one round trip.
"""
import asyncio
import sys

port, upstream, way = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 2000


async def carry(reader, writer):
    loop, line = asyncio.get_running_loop(), asyncio.Queue()

    async def leave():
        while True:
            at, chunk = await line.get()
            await asyncio.sleep(at - loop.time())
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    leaving = asyncio.create_task(leave())
    try:
        while True:
            chunk = await reader.read(1 << 16)
            line.put_nowait((loop.time() + way, chunk))
            if not chunk:
                break
    except ConnectionError:
        line.put_nowait((loop.time() + way, b""))
    await leaving


async def connection(reader, writer):
    await asyncio.sleep(2 * way)
    there, back = await asyncio.open_connection("127.0.0.1", upstream)
    try:
        await asyncio.gather(carry(reader, back), carry(there, writer))
    except ConnectionError:
        pass
    finally:
        back.close()
        writer.close()


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


asyncio.run(main())
