"""A TCP proxy that a test holds in its hand: it changes where connections go, cuts them, and refuses some by their first
bytes, as a proxy does that knows no WebSocket."""

import socket
import threading


class Gate:
    """Listens on a free port of 127.0.0.1. `target`: (host, port), or None: nobody gets through. `refuses`: a function of a
    connection's first bytes; true: it ends there."""

    def __init__(self, target, refuses=None):
        self.target, self.refuses = target, refuses
        self.lock = threading.Lock()
        self.sockets = set()
        self.refused = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Ends all connections. Where they go next `target` says."""
        with self.lock:
            for end in self.sockets:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        server = None
        with self.lock:
            self.sockets.add(client)
        try:
            first = client.recv(65536)
            if not first or not self.target:
                return
            if self.refuses and self.refuses(first):
                self.refused += 1
                return
            server = socket.create_connection(self.target)
            with self.lock:
                self.sockets.add(server)
            server.sendall(first)
            back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
            back.start()
            self.pump(client, server)
            back.join()
        except OSError:
            pass
        finally:
            with self.lock:
                self.sockets -= {client, server}
            client.close()
            if server:
                server.close()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
