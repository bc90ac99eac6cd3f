"""Ends TLS before a server of this machine that has none, one thread a direction; prints its port.

    tls_front.py CERTIFICATE KEY HOST:PORT
"""

import socket
import ssl
import sys
import threading

certificate, key, server = sys.argv[1:]
host, port = server.split(":")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def pump(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client):
    try:
        inside = context.wrap_socket(client, server_side=True)
        outside = socket.create_connection((host, int(port)))
    except OSError:
        return
    threading.Thread(target=pump, args=(outside, inside), daemon=True).start()
    pump(inside, outside)


while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
