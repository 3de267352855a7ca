"""The two ends of a link, measured with plain sockets. Runs on hosts as `python -c SOURCE JSON`: standard library only, one file.

``{"do": "listen", "address", "ports", "udp_port", "token", "life_s"}`` answers echo, sink and source until it is told to end, then says
which
ports were taken and which datagrams came from whom. ``{"do": "reach", ...}`` tries every port of every other host and sends datagrams.
``{"do": "measure", ...}`` takes latency and both directions of bandwidth to one host. Each writes one line of JSON.

A listener binds one address and talks only to whoever knows its token: it is no open relay while it lives.
"""

import json
import os
import socket
import struct
import sys
import threading
import time

_LINE = 4096
_CHUNK = 1 << 18
# IP_MTU_DISCOVER = IP_PMTUDISC_PROBE: send with "do not fragment", whatever the kernel believes of the path.
_IP_MTU_DISCOVER, _PROBE = 10, 3
_CONNECT_S = 2.0
# What arrives first fills buckets and windows, and says little about the link.
_WARM_SHARE = 0.3


def _receive_line(connection):
    data = b""
    while not data.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece or len(data) > _LINE:
            raise OSError("no request came")
        data += piece
    return json.loads(data.decode())


def _say(document):
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


class Listener:
    """Answers the other hosts."""

    def __init__(self, asked):
        self.token = asked["token"]
        self.datagrams = {}
        self.busy = {}
        self.over = threading.Event()
        address = asked["address"]
        for port in asked["ports"]:
            server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((address, port))
                server.listen(64)
            except OSError as error:
                self.busy[port] = error.strerror or str(error)
                continue
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind((address, asked["udp_port"]))
            threading.Thread(target=self._datagrams, args=(udp,), daemon=True).start()
        except OSError as error:
            self.busy["udp"] = error.strerror or str(error)

    def _accept(self, server):
        while True:
            connection, _ = server.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                connection.settimeout(30)
                request = _receive_line(connection)
                if request.get("token") != self.token:
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if request["do"] == "echo":
                    size = int(request["bytes"])
                    while True:
                        connection.sendall(_receive_exactly(connection, size))
                elif request["do"] == "sink":
                    connection.sendall((json.dumps(_drain(connection)) + "\n").encode())
                elif request["do"] == "source":
                    _pour(connection, float(request["seconds"]), int(request["bytes"]))
                elif request["do"] == "end":
                    self.over.set()
            except (OSError, ValueError, KeyError):
                return  # the other side sees its end of it

    def _datagrams(self, udp):
        while True:
            data, _ = udp.recvfrom(1 << 16)
            try:
                token, sender, size = data.split(b"\n", 3)[:3]
                if token.decode() == self.token:
                    self.datagrams.setdefault(sender.decode(), []).append(int(size))
            except (ValueError, UnicodeDecodeError):
                continue


def _receive_exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("ended")
        data += piece
    return bytes(data)


def _drain(connection):
    """Bytes and seconds of what comes until the other side ends, the warm-up left out."""
    buffer, total, marks = bytearray(_CHUNK), 0, []
    while True:
        count = connection.recv_into(buffer)
        if not count:
            break
        total += count
        now = time.perf_counter()
        if not marks or now - marks[-1][0] > 0.005:
            marks.append((now, total))
        last = (now, total)
    if not marks:
        return {"bytes": 0, "seconds": 0.0, "total_bytes": 0}
    start_s = marks[0][0] + _WARM_SHARE * (last[0] - marks[0][0])
    first = next((mark for mark in marks if mark[0] >= start_s), marks[0])
    return {"bytes": last[1] - first[1], "seconds": last[0] - first[0], "total_bytes": total}


def _pour(connection, seconds, most_bytes):
    """Send for so long, or so much; little waits unsent, so that the end comes soon after."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, 25, 1 << 17)  # TCP_NOTSENT_LOWAT
    except OSError:
        pass
    block, sent, until = os.urandom(_CHUNK), 0, time.perf_counter() + seconds
    while time.perf_counter() < until and sent < most_bytes:
        connection.sendall(block[: min(_CHUNK, most_bytes - sent)])
        sent += _CHUNK
    connection.shutdown(socket.SHUT_WR)


def _connect(asked, address, port, patience_s=_CONNECT_S):
    """A connection that leaves from this host's own address of the fabric."""
    source = (asked["address"], 0) if asked.get("address") else None
    connection = socket.create_connection((address, port), timeout=patience_s, source_address=source)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _request(connection, **words):
    connection.sendall((json.dumps(words) + "\n").encode())


def listen(asked):
    """Answer until told to end, or until the life is over."""
    listener = Listener(asked)
    deaf = all(port in listener.busy for port in asked["ports"])  # nobody could tell it to end
    ended = not deaf and listener.over.wait(asked["life_s"])
    _say({"busy": listener.busy, "datagrams": listener.datagrams, "ended": ended})


def reach(asked):
    """Which ports of which hosts can be reached from here; datagrams of several sizes to each, never fragmented."""
    found, lock = {}, threading.Lock()

    def try_port(peer, port):
        started = time.perf_counter()
        # The listeners of all hosts start at the same time as this: a refusal is asked again for a while.
        until = started + asked.get("patience_s", 8)
        while True:
            try:
                _connect(asked, peer["address"], port).close()
                said = {"ms": round((time.perf_counter() - started) * 1e3, 3)}
                break
            except OSError as error:
                said = {"error": "timeout" if isinstance(error, socket.timeout) else error.strerror or str(error)}
                refused = isinstance(error, ConnectionRefusedError)
                if not refused or time.perf_counter() > until:
                    break
                time.sleep(0.2)
        with lock:
            found.setdefault(peer["name"], {"ports": {}})["ports"][str(port)] = said

    def send_datagrams(peer):
        sent = []
        with socket.socket(socket.AF_INET6 if ":" in peer["address"] else socket.AF_INET, socket.SOCK_DGRAM) as udp:
            if asked.get("address"):
                udp.bind((asked["address"], 0))
            if ":" not in peer["address"]:
                udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
            for size in [*asked["sizes"]] * 3:
                head = ("%s\n%s\n%d\n" % (asked["token"], asked["me"], size)).encode()
                try:
                    udp.sendto(head + b"x" * max(0, size - len(head)), (peer["address"], peer["udp_port"]))
                    sent.append(size)
                except OSError as error:
                    sent.append("%d: %s" % (size, error.strerror or error))
                time.sleep(0.02)
        with lock:
            found.setdefault(peer["name"], {"ports": {}})["sent"] = sorted(set(map(str, sent)))

    threads = [
        threading.Thread(target=try_port, args=(peer, port)) for peer in asked["peers"] for port in peer["ports"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # After the ports: by now every listener is there.
    for peer in asked["peers"]:
        send_datagrams(peer)
    _say(found)


def measure(asked):
    """Round trips of a small message, and bytes per second in both directions, to one host. Times in seconds."""
    address, port, token = asked["peer"]["address"], asked["peer"]["port"], asked["token"]
    size, trips = asked.get("message_bytes", 64), []
    with _connect(asked, address, port) as connection:
        _request(connection, token=token, do="echo", bytes=size)
        connection.settimeout(10)
        message, until = os.urandom(size), time.perf_counter() + asked["ping_s"]
        while len(trips) < asked["most_pings"] and (len(trips) < 20 or time.perf_counter() < until):
            started = time.perf_counter()
            connection.sendall(message)
            _receive_exactly(connection, size)
            trips.append(time.perf_counter() - started)
    answer = {"round_trips_s": trips[min(5, len(trips) // 10) :], "message_bytes": size}
    with _connect(asked, address, port) as connection:
        _request(connection, token=token, do="sink")
        connection.settimeout(60)
        _pour(connection, asked["stream_s"], asked["most_bytes"])
        answer["there"] = _receive_line(connection)
    with _connect(asked, address, port) as connection:
        _request(connection, token=token, do="source", seconds=asked["stream_s"], bytes=asked["most_bytes"])
        connection.settimeout(60)
        answer["back"] = _drain(connection)
    _say(answer)


def end(asked):
    """Tell listeners to end."""
    ended = []
    for peer in asked["peers"]:
        for port in peer["ports"]:
            try:
                with _connect(asked, peer["address"], port) as connection:
                    _request(connection, token=asked["token"], do="end")
                    connection.recv(1)
                ended.append(peer["name"])
                break
            except OSError:
                continue
    _say({"ended": ended})


def main():
    """Do what the argument says; an error of the network is an answer too."""
    asked = json.loads(sys.argv[1])
    try:
        {"listen": listen, "reach": reach, "measure": measure, "end": end}[asked["do"]](asked)
    except (OSError, struct.error) as error:
        _say({"error": ("%s: %s" % (type(error).__name__, error))[:300]})


if __name__ == "__main__":
    main()
