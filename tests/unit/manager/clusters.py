"""Both clusters for the manager's credentials: Secrets, CSRs, tokens and requesters."""

from __future__ import annotations

import base64
import contextlib
import copy
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509

from farlet import errors
from farlet.client.api_client import ApiClient
from farlet.manager.kubeconfigs import Kubeconfig
from unit import certificates
from unit.fakeclient import FakeClient

JSON = dict[str, Any]
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SECRETS = "/api/v1/namespaces/farlet/secrets"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
MANAGER = "system:serviceaccount:farlet:farlet-manager"
BINDING = "/api/v1/namespaces/farlet-far/secrets/farlet-token"
TOKENS = "/api/v1/namespaces/farlet-far/serviceaccounts/farlet/token"
ACCOUNT = "system:serviceaccount:farlet-far:farlet"
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
HOME_CA = certificates.authority("home", ends=START + 3650 * DAY)


def error(code: int, reason: str = "") -> errors.ApiError:
    kinds = {
        401: errors.Unauthorized,
        403: errors.Forbidden,
        404: errors.NotFound,
        409: errors.Conflict,
    }
    return kinds[code](cluster="fake", request="it", code=code, status_reason=reason, message="no")


def unreachable() -> errors.FarletError:
    return errors.Unreachable(cluster="fake", request="it", cause="refused")


def timestamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class Api(FakeClient):
    """Objects by path, for one user; `seen` is shared by all users of a server."""

    def __init__(self, server: Server, user: Callable[[], str | None]) -> None:
        self._server = server
        self._user = user

    @property
    def server(self) -> str:
        return "https://10.96.0.1:443"

    @property
    def ca_file(self) -> str | None:
        return str(self._server.ca_file)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "",
        accept: str | None = None,
    ) -> JSON:
        return self._server.answer(self._user(), method, path, body)


class Server:
    """One API server."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.crt"
        self.ca_file.write_text(HOME_CA.pem)
        self.objects: dict[str, JSON] = {}
        self.seen: list[tuple[str | None, str, str]] = []
        """User, method and path of each request."""
        self.failing: dict[str, Callable[[], errors.FarletError]] = {}
        """Errors by the beginning of `METHOD path`."""
        self.lost: set[str] = set()
        """Writes that take effect, and whose answer is lost, once."""
        self.token: Callable[[JSON], str] = lambda spec: ""
        """Issues a token from the spec of a TokenRequest."""
        self._versions = itertools.count(1)

    def answer(self, user: str | None, method: str, path: str, body: Any) -> JSON:
        self.seen.append((user, method, path))
        request = f"{method} {path}"
        for begin, failing in self.failing.items():
            if request.startswith(begin):
                raise failing()
        if user is None:
            raise error(401)
        answer = self._answer(user, method, path, copy.deepcopy(body))
        if request in self.lost:
            self.lost.discard(request)
            raise unreachable()
        return copy.deepcopy(answer)

    def _answer(self, user: str, method: str, path: str, body: JSON) -> JSON:
        if path == REVIEWS:
            return {"status": {"userInfo": {"username": user}}}
        if path.endswith("/token") and method == "POST":
            return {**body, "status": {"token": self.token(body["spec"])}}
        if method == "GET":
            if path not in self.objects:
                raise error(404)
            return self.objects[path]
        if method == "POST":
            where = f"{path}/{body['metadata']['name']}"
            if where in self.objects:
                raise error(409, "AlreadyExists")
            if path == CSRS:
                body["spec"]["username"] = user
                body["metadata"]["creationTimestamp"] = timestamp(self._now())
            return self.put(where, body)
        where = path.removesuffix("/approval")
        version = self.objects[where]["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", version) != version:
            raise error(409, "Conflict")
        if method == "PATCH":
            data = {**self.objects[where].get("data", {}), **body["data"]}
            kept = {key: value for key, value in data.items() if value is not None}
            return self.put(where, {**self.objects[where], "data": kept})
        assert method == "PUT"
        return self.put(where, body)

    def put(self, path: str, obj: JSON) -> JSON:
        version = str(next(self._versions))
        metadata = {"uid": f"u{version}", **obj["metadata"], "resourceVersion": version}
        self.objects[path] = {**obj, "metadata": metadata}
        return self.objects[path]

    def count(self, method: str, path: str) -> int:
        return sum(1 for _, m, p in self.seen if (m, p) == (method, path))

    def secret(self, name: str, **content: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
        self.put(f"{SECRETS}/{name}", {"metadata": {"name": name}, "data": data})

    def read(self, name: str) -> dict[str, str]:
        data = self.objects.get(f"{SECRETS}/{name}", {}).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @property
    def requests(self) -> list[JSON]:
        return [obj for path, obj in self.objects.items() if path.startswith(CSRS)]


class Clusters:
    """Home and foreign, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.home_server = Server(folder / "home", self.now)
        self.foreign_server = Server(folder / "foreign", self.now)
        self.home = Api(self.home_server, lambda: MANAGER)
        self.time = START
        self.trusted = HOME_CA
        """Whose client certificates home accepts."""
        self.valid_tokens: set[str] = set()
        self.unreachable: set[str] = set()

    def now(self) -> datetime:
        return self.time

    @contextlib.asynccontextmanager
    async def connect(self, name: str, config: Kubeconfig) -> AsyncIterator[ApiClient]:
        if name in self.unreachable:
            raise unreachable()
        server = self.home_server if name == "home" else self.foreign_server
        yield Api(server, lambda: self._user(name, config))

    def _user(self, name: str, config: Kubeconfig) -> str | None:
        if name == "home":
            if config.pair is None or config.pair.leaf.issuer != self.trusted.certificate.subject:
                return None
            if self.time >= config.pair.leaf.not_valid_after_utc:
                return None
            return str(config.pair.leaf.subject.get_attributes_for_oid(_CN)[0].value)
        return ACCOUNT if config.token in self.valid_tokens else None

    # --- home, as approver and signer ---------------------------------------------------------

    def decide(self, kind: str) -> JSON:
        """Decide the newest request."""
        csr = self.home_server.requests[-1]
        condition = {"type": kind, "status": "True", "reason": "Because", "message": "of it"}
        condition["lastUpdateTime"] = timestamp(self.time)
        status = {"conditions": [condition]}
        return self.home_server.put(f"{CSRS}/{csr['metadata']['name']}", {**csr, "status": status})

    def grant(self, *, ca: certificates.Pair = HOME_CA, life: timedelta = 7 * DAY) -> None:
        """Approve and sign the newest request."""
        csr = self.decide("Approved")
        request = base64.b64decode(csr["spec"]["request"])
        begins = self.time - timedelta(minutes=5)
        issued = certificates.sign(ca, request, begins=begins, ends=begins + life)
        status = {**csr["status"], "certificate": base64.b64encode(issued.encode()).decode()}
        self.home_server.put(f"{CSRS}/{csr['metadata']['name']}", {**csr, "status": status})

    # --- foreign ------------------------------------------------------------------------------

    def issue_token(
        self,
        *,
        life: timedelta | None = 30 * DAY,
        bound: str | None = "u-token",
        subject: str = ACCOUNT,
        accepted: bool = True,
    ) -> str:
        claims: JSON = {"sub": subject, "kubernetes.io": {"namespace": "farlet-far"}}
        if life is not None:
            claims["iat"] = int(self.time.timestamp())
            claims["exp"] = int((self.time + life).timestamp())
        if bound is not None:
            claims["kubernetes.io"]["secret"] = {"name": "farlet-token", "uid": bound}
        token = ".".join(
            base64.urlsafe_b64encode(part).decode().rstrip("=")
            for part in (b'{"alg":"none"}', orjson.dumps(claims), b"signature")
        )
        if accepted:
            self.valid_tokens.add(token)
        return token


_CN = x509.NameOID.COMMON_NAME
