"""A scripted backend: each connection runs a function in a thread of its own, which reads and writes what it likes.

    with Backend(serve(lambda request: response(b"hello"))) as backend: ...   # answers requests, keeps alive
    with Backend(lambda stream: stream.send(b"nonsense")) as backend: ...     # does anything else
"""

import contextlib
import socket
import ssl
import threading

from http1 import Ended, Stream


def serve(answer):
    """A script that answers each request of a connection. `answer(request)` returns bytes; None ends the connection."""

    def script(stream):
        while (request := stream.read_request()) is not None:
            stream.backend.requests.append(request)
            data = answer(request)
            if data is None:
                return
            stream.send(data)

    return script


class Backend:
    """Listens on a free port of 127.0.0.1. `requests` are those that `serve` read, `streams` all connections so far."""

    def __init__(self, script, port=0):
        self.script = script
        self.requests = []
        self.streams = []
        self.listening = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listening.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listening.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = Stream(sock)
                sock.settimeout(60)  # a kept connection waits long
                stream.backend = self
                self.streams.append(stream)
                threading.Thread(target=self.run, args=(stream,), daemon=True).start()

    def run(self, stream):
        with contextlib.suppress(OSError, Ended, ValueError):
            self.script(stream)
        with contextlib.suppress(OSError):
            stream.sock.shutdown(socket.SHUT_RDWR)
        stream.close()

    def stop(self, *, reset=False):
        """Nobody listens any more and every connection ends."""
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(5)
        for stream in self.streams:
            with contextlib.suppress(OSError):
                if reset:
                    stream.reset()
                else:
                    stream.sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class TlsBackend(Backend):
    """The same over TLS. `names` are those that clients have asked for by SNI."""

    def __init__(self, script, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        context.sni_callback = lambda _, name, __: self.names.append(name)
        self.names = []

        def secured(stream):
            stream.sock = context.wrap_socket(stream.sock, server_side=True)
            script(stream)

        super().__init__(secured)


def proxy_config(*backends, route="", upstream="", listener=""):
    """ini text: everything goes to these backends. `route`, `upstream`: more lines of those sections."""
    servers = "".join(f"server = {b if isinstance(b, str) else b.address}\n" for b in backends)
    return (
        f"[upstream app]\n{servers}{upstream}\n"
        f"[route /]\nmode = proxy\nupstream = app\n{route}\n"
        f"[listener public]\nlisten = 127.0.0.1:0\n{listener}\n"
    )
