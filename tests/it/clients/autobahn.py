"""The cases of the Autobahn suite (by way of kosoku), and what they are run against; each prints a line "listening PORT", or "CASE VERDICT VERDICT-OF-THE-CLOSE CODE".

autobahn.py echo                 a server under test
autobahn.py cases URL            runs all cases against the server at URL
autobahn.py fuzz                 serves all cases to a client under test
autobahn.py client URL [TOKEN]   a client under test, for the cases that URL serves; TOKEN goes along as user-token"""

import asyncio
import sys

import websockets
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

# Some cases send messages of up to 16 MiB.
LONGEST = 64 << 20

# All but those that measure how long a thousand compressed messages of each larger size take.
CASES = [f"{family}.*" for family in range(1, 8)] + ["9.1.*", "9.2.*", "9.3.1", "9.4.1", "9.7.1", "9.8.1", "10.*"]
CASES += [f"12.{kind}.1" for kind in range(1, 6)] + [f"13.{kind}.1" for kind in range(1, 8)]


async def echoes(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


async def echo():
    async with serve(echoes, "127.0.0.1", 0, max_size=LONGEST) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def told(results):
    try:
        results = await results
    except FailureError as failure:
        results = failure.results
    for one in results:
        print(one.case_id, one.behavior.value, one.behavior_close.value, one.remote_close_code)


async def fuzz():
    async with run_fuzzingserver(CASES, host="127.0.0.1", port=0) as server:
        print("listening", server.port, flush=True)
        await told(server.get_result())


async def client(url, token=None):
    headers = {"user-token": token} if token else None

    def at(path):
        return connect(url + path, additional_headers=headers, max_size=LONGEST)

    async with at("/getCaseCount") as socket:
        count = int(await socket.recv())
    for case in range(1, count + 1):
        try:
            async with at(f"/runCase?case={case}&agent=a") as socket:
                await echoes(socket)
        except (OSError, websockets.WebSocketException) as error:
            print(f"case {case}: {error}", file=sys.stderr)
    async with at("/updateReports?agent=a"):
        pass


what, *arguments = sys.argv[1:]
asyncio.run({"echo": echo, "cases": lambda url: told(run_fuzzingclient(url, CASES, concurrency=8)), "fuzz": fuzz, "client": client}[what](*arguments))
