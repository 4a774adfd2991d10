"""One HTTP/3 connection, for t/lib/EdgespanTest/Http3.pm.

http3.py PORT

Reads commands, a line of JSON each, and writes what happens likewise: {"event": "open"}
first, then for a stream "headers" (with the status), "data" (the first of it), "end" and
"reset", and "closed" for the connection. It ends with its input.

{"do": "request", "headers": [[name, value]...], "body": text, "end": bool}
{"do": "data", "stream": id, "body": text, "end": bool}
{"do": "raw", "stream": id or null, "hex": bytes of the stream, "end": bool}
{"do": "leave", "stream": id}      resets the stream and wants no more of it
{"do": "pause", "seconds": float}  neither reads nor acknowledges anything meanwhile
{"do": "close"}                    closes the connection
"""

import json
import os
import select
import socket
import ssl
import sys
import time

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamReset

REQUEST_CANCELLED = 0x10C

server = ("127.0.0.1", int(sys.argv[1]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(server)
sock.setblocking(False)

quic = QuicConnection(configuration=QuicConfiguration(
    alpn_protocols=H3_ALPN, server_name="localhost", verify_mode=ssl.CERT_NONE))
quic.connect(server, now=time.monotonic())
h3 = H3Connection(quic)
begun = set()


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def send():
    for data, _ in quic.datagrams_to_send(now=time.monotonic()):
        try:
            sock.send(data)
        except OSError:
            pass  # as if it was lost


def receive():
    while True:
        try:
            data = sock.recv(65536)
        except OSError:
            return
        quic.receive_datagram(data, server, now=time.monotonic())


def obey(command):
    what = command["do"]
    stream = command.get("stream")
    body = command.get("body", "").encode()
    end = bool(command.get("end"))
    if what == "request":
        stream = quic.get_next_available_stream_id()
        headers = [(n.encode(), v.encode()) for n, v in command["headers"]]
        h3.send_headers(stream, headers, end_stream=end and not body)
        if body:
            h3.send_data(stream, body, end_stream=end)
        tell("begun", stream=stream)
    elif what == "data":
        h3.send_data(stream, body, end_stream=end)
    elif what == "raw":
        if stream is None:
            stream = quic.get_next_available_stream_id()
            tell("begun", stream=stream)
        quic.send_stream_data(stream, bytes.fromhex(command["hex"]), end_stream=end)
    elif what == "leave":
        quic.reset_stream(stream, REQUEST_CANCELLED)
        quic.stop_stream(stream, REQUEST_CANCELLED)
    elif what == "pause":
        time.sleep(command["seconds"])
    elif what == "close":
        quic.close()


def tell_events():
    while (event := quic.next_event()) is not None:
        if isinstance(event, HandshakeCompleted):
            tell("open", port=sock.getsockname()[1])
        elif isinstance(event, StreamReset):
            tell("reset", stream=event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            tell("closed")
            return False
        for got in h3.handle_event(event):
            if isinstance(got, HeadersReceived):
                tell("headers", stream=got.stream_id, status=int(dict(got.headers)[b":status"]))
            elif isinstance(got, DataReceived):
                if got.data and got.stream_id not in begun:
                    begun.add(got.stream_id)
                    tell("data", stream=got.stream_id)
            if getattr(got, "stream_ended", False):
                tell("end", stream=got.stream_id)
    return True


send()
lines = b""
while tell_events():
    timer = quic.get_timer()
    wait = None if timer is None else max(0, timer - time.monotonic())
    ready, _, _ = select.select([sock, sys.stdin], [], [], wait)
    if sock in ready:
        receive()
    if sys.stdin in ready:
        some = os.read(sys.stdin.fileno(), 65536)
        if not some:
            break
        lines += some
        while b"\n" in lines:
            line, lines = lines.split(b"\n", 1)
            obey(json.loads(line))
            send()
    if timer is not None and time.monotonic() >= timer:
        quic.handle_timer(now=time.monotonic())
    send()
