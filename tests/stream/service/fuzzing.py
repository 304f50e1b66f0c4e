"""Requests that start from valid ones and are then spoiled: values, JSON, bytes, headers, paths, credentials.

A seed gives the same requests again. Every entity key, event id and text in them holds a mark (`zq` and 16
hexadecimal digits), so that any of them can be found in a log.
"""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

MARK = rb"zq[0-9a-f]{16}"
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "FOO")
FEATURES = ("amount", "n", "ratio")
HEADERS = (
    *(b"Content-Type", b"Authorization", b"X-API-Key", b"Inference-Header-Content-Length"),
    *(b"Accept", b"Content-Encoding", b"Origin", b"Cookie", b"Range", b"Expect-CT", b"traceparent"),
)
HEADER_VALUES = (
    *(b"", b"-1", b"\xb2", b"1e3", b"999999999999999999999", b"\xff\xfe", b"a" * 9000, b"text/xml"),
    *(b"application/json; charset=utf-16", b"gzip", b"Bearer", b"Basic Og=="),
)


@dataclass
class Asked:
    """One request before it is bytes."""

    method: str
    path: str
    body: Any = None
    tail: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Fuzzer:
    """Makes requests; `tokens` are API keys by name, one of them `all`."""

    def __init__(self, seed: int, tokens: dict[str, str]) -> None:
        self._random = random.Random(seed)
        self._tokens = tokens

    def requests(self, count: int) -> Iterator[bytes]:
        """So many requests, each the bytes of one HTTP/1.1 message."""
        for _ in range(count):
            yield self._request()

    def _mark(self) -> str:
        return f"zq{self._random.getrandbits(64):016x}"

    def _request(self) -> bytes:
        draw = self._random
        asked = draw.choice(VALID)(self)
        body = b"" if asked.body is None else self._json(asked.body)
        if asked.tail:
            asked.headers.append((b"Inference-Header-Content-Length", str(len(body)).encode()))
            body += asked.tail
        if body and draw.random() < 0.3:
            body = self._spoil_bytes(body)
        self._credentials(asked)
        if draw.random() < 0.15:
            self._spoil_headers(asked)
        if draw.random() < 0.05:
            asked.method = draw.choice(METHODS)
        path = self._spoil_path(asked.path) if draw.random() < 0.1 else asked.path
        if draw.random() < 0.05 and asked.method == "POST":
            return self._message(asked, path, self._chunked(body), b"Transfer-Encoding: chunked\r\n")
        return self._message(asked, path, body, b"Content-Length: %d\r\n" % len(body))

    @staticmethod
    def _message(asked: Asked, path: str, body: bytes, length: bytes) -> bytes:
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in asked.headers)
        head = f"{asked.method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        return head + lines + length + b"\r\n" + body

    def _json(self, document: Any) -> bytes:
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            document = self._spoil(document)
        return json.dumps(document, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "surrogatepass")

    def _spoil(self, document: Any) -> Any:
        """The document with one node replaced, removed, added or wrapped."""
        draw = self._random
        if isinstance(document, dict) and document and draw.random() < 0.85:
            name = draw.choice(list(document))
            kind = draw.random()
            if kind < 0.15:
                return {key: value for key, value in document.items() if key != name}
            if kind < 0.3:
                return {**document, draw.choice((self._mark(), "", "rows", "\x00")): self._junk()}
            return {**document, name: self._spoil(document[name])}
        if isinstance(document, list) and document and draw.random() < 0.85:
            place = draw.randrange(len(document))
            return [*document[:place], self._spoil(document[place]), *document[place + 1 :]]
        return [document] if draw.random() < 0.1 else self._junk()

    def _junk(self) -> Any:
        draw = self._random
        kind = draw.randrange(16)
        if kind < 11:
            return (None, True, -1, 0.5, "", [], {}, float("nan"), float("-inf"), 10**30, 1e308)[kind]
        if kind == 11:
            return draw.choice(("\ud800", "\x00", "\u202e", "1e5", "NaN", "2026-13-45T99:00:00Z", "12,0"))
        if kind == 12:
            return self._mark() * draw.choice((1, 50, 2000))
        if kind == 13:
            nested: Any = self._mark()
            for _ in range(draw.choice((2, 70, 400))):
                nested = [nested] if draw.random() < 0.5 else {"a": nested}
            return nested
        if kind == 14:
            return int("9" * draw.choice((19, 40, 400)))
        return [self._mark()] * draw.choice((2, 1001))

    def _spoil_bytes(self, body: bytes) -> bytes:
        draw = self._random
        place = draw.randrange(len(body) + 1)
        return draw.choice(
            (
                lambda: body[:place],
                lambda: body[:place] + draw.randbytes(draw.choice((1, 5, 300))) + body[place:],
                lambda: body.decode(errors="replace").encode("utf-16"),
                lambda: b"\xef\xbb\xbf" + body,
                lambda: body + body,
                lambda: draw.choice((b"[", b'{"a":')) * draw.choice((100, 20_000)),
                lambda: body.replace(b"1", b"1" * 5000, 1),
                lambda: body.replace(b":", b":NaN,", 1),
                lambda: draw.randbytes(draw.choice((1, 50, 5000))),
                lambda: b"",
            )
        )()

    def _spoil_headers(self, asked: Asked) -> None:
        draw = self._random
        name = draw.choice(HEADERS)
        value = draw.choice((*HEADER_VALUES, self._mark().encode()))
        asked.headers = [one for one in asked.headers if draw.random() < 0.8]
        asked.headers += [(name, value)] * draw.choice((1, 1, 2, 40))

    def _credentials(self, asked: Asked) -> None:
        draw = self._random
        token = self._tokens["all"]
        if draw.random() < 0.1:
            wrong = ("rsk_" + self._mark(), "a.b.c", token[:-3], "eyJhbGciOiJub25lIn0.e30.", "")
            token = draw.choice((*wrong, *self._tokens.values()))
        if draw.random() < 0.5:
            asked.headers.append((b"Authorization", b"Bearer " + token.encode()))
        else:
            asked.headers.append((b"X-API-Key", token.encode()))
        if asked.body is not None:
            asked.headers.append((b"Content-Type", b"application/json"))

    def _spoil_path(self, path: str) -> str:
        draw = self._random
        return draw.choice(
            (
                path + "/" + self._mark(),
                path + "?" + quote(self._mark()) + "=%00&&=",
                path + "%00",
                path + "/%ff%fe" + self._mark(),
                path.replace("/", "//", 1),
                path + "/..%2f..%2fetc%2fpasswd",
                path + "/" + "a" * 3000,
                "/" + self._mark(),
                path.rsplit("/", 1)[0] or "/",
            )
        )

    @staticmethod
    def _chunked(body: bytes) -> bytes:
        pieces = [body[at : at + 7_000] for at in range(0, len(body), 7_000)]
        return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    def predict(self) -> Asked:
        row = {name: self._random.uniform(-5, 500) for name in FEATURES}
        return Asked("POST", "/predict", {"rows": [row] * self._random.choice((1, 1, 1, 3, 40))})

    def event(self) -> Asked:
        body = {"id": self._mark(), "time": self._random.randrange(10**12), "card": self._mark()}
        body |= {"amount": self._random.uniform(0, 900), "age": 30.0, "channel": self._mark()}
        return Asked("POST", "/v1/score/payments", body)

    def entity(self) -> Asked:
        return Asked("GET", f"/v1/features/card/{self._mark()}")

    def decision(self) -> Asked:
        return Asked("GET", f"/v1/decisions/{self._mark()}")

    def infer(self) -> Asked:
        values = [self._random.uniform(-5, 500) for _ in FEATURES]
        tensor = {"name": "features", "shape": [1, 3], "datatype": "FP32", "data": values}
        return Asked("POST", self._model("/infer"), {"id": self._mark(), "inputs": [tensor]})

    def infer_binary(self) -> Asked:
        tail = struct.pack("<3f", *(self._random.uniform(-5, 500) for _ in FEATURES))
        tensor: dict[str, Any] = {"name": "features", "shape": [1, 3], "datatype": "FP32"}
        tensor["parameters"] = {"binary_data_size": len(tail)}
        return Asked("POST", self._model("/infer"), {"inputs": [tensor]}, tail)

    def metadata(self) -> Asked:
        return Asked("GET", self._model(self._random.choice(("", "/ready"))))

    def refresh(self) -> Asked:
        return Asked("POST", "/v1/models/refresh")

    def other(self) -> Asked:
        paths = ("/v1/models", "/metrics", "/healthz", "/readyz", "/openapi.json", "/v2", "/v2/health/live")
        return Asked("GET", self._random.choice((*paths, "/v2/health/ready")))

    def _model(self, end: str) -> str:
        return self._random.choice(("/v2/models/fraud", "/v2/models/fraud/versions/1")) + end


_OFTEN: tuple[Callable[[Fuzzer], Asked], ...] = (Fuzzer.predict, Fuzzer.event, Fuzzer.infer)
VALID = (
    *_OFTEN * 3,
    Fuzzer.entity,
    Fuzzer.decision,
    Fuzzer.infer_binary,
    Fuzzer.metadata,
    Fuzzer.refresh,
    Fuzzer.other,
)


class Connection:
    """Sends bytes and reads whole answers; opens anew where the server closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, message: bytes) -> tuple[int, bytes]:
        """(status, headers and body) of the answer."""
        reused = self._socket is not None
        try:
            return self._ask(message)
        except ConnectionError:
            self.close()
            if not reused:
                raise
        return self._ask(message)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, message: bytes) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(message)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = 0 if message.startswith(b"HEAD") else int(fields.get(b"content-length", b"0"))
        while len(body) < size:
            body += self._more()
        if fields.get(b"connection") == b"close" or b"content-length" not in fields:
            self.close()
        return int(head.split(b" ", 2)[1]), head + b"\r\n\r\n" + body

    def _more(self) -> bytes:
        assert self._socket is not None
        piece = self._socket.recv(1 << 16)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        return piece
