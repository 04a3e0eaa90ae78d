"""Home tokens for mirrors: TokenRequests and their answers.

A token is bound to the home pod and is valid as long as that pod exists. Its value goes from the
answer into the mirror's Secret and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Sequence

from prometheus_client import Counter

from farlet import errors, names
from farlet.access import Token, TokenSpec
from farlet.client import json_web_token, resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON
from farlet.forge import timestamps
from farlet.k8s_types import Pod
from farlet.planning import token_rotation
from farlet.store import Store

HELD_SECONDS = 300.0
"""A token that was not delivered within this time is requested again."""

REUSED_SECONDS = 60.0
"""For this time a delivered token is used again: one pod costs no more than a request in this time
for each token, however often its mirror or Secret is deleted or changed in the foreign cluster."""


class Tokens:
    """Requests tokens, and keeps them until they are delivered and for a moment longer."""

    def __init__(self, home: ApiClient, store: Store, *, granted: Counter) -> None:
        self._home = home
        self._store = store
        self._granted = granted
        self._delivered: OrderedDict[str, float] = OrderedDict()
        """By home uid: when its tokens were first delivered; the oldest first."""
        self._timer: asyncio.TimerHandle | None = None

    async def grant(self, pod: Pod, token_specs: tuple[TokenSpec, ...]) -> dict[str, Token]:
        """Tokens by `TokenSpec.key`. Raises what `Cluster.call` raises.

        One is requested first, then the others together: a server whose caches lack the pod
        refuses one request, not one for each audience.
        """
        if not token_specs:
            return {}
        uid, now = pod["metadata"]["uid"], time.time()
        self._drop_delivered()
        held = self._store.tokens.setdefault(uid, {})
        missing = [c for c in token_specs if not _usable(held.get(c.key), uid=uid, now=now)]
        for together in (missing[:1], missing[1:]):
            await self._request(pod, together, held)
        return {token_spec.key: held[token_spec.key] for token_spec in token_specs}

    async def _request(
        self, pod: Pod, missing: Sequence[TokenSpec], held: dict[str, Token]
    ) -> None:
        now = time.time()
        answers = await asyncio.gather(
            *(_caught(request(self._home, pod, token_spec, now=now)) for token_spec in missing)
        )
        for token_spec, answer in zip(missing, answers, strict=True):
            if isinstance(answer, Token):
                held[token_spec.key] = answer
                self._granted.inc()
        for answer in answers:
            if not isinstance(answer, Token):
                raise answer

    def delivered(self, pod: Pod) -> None:
        """The mirror's Secret has them: keep them for a moment only."""
        self._delivered.setdefault(pod["metadata"]["uid"], time.monotonic())
        self._drop_delivered()
        self._drop_later()

    def forget(self, uid: str) -> None:
        """Home pod `uid` is deleted."""
        self._delivered.pop(uid, None)

    def _drop_later(self) -> None:
        """Also where no further token is requested."""
        if self._timer is None and self._delivered:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REUSED_SECONDS, self._elapsed)

    def _elapsed(self) -> None:
        self._timer = None
        self._drop_delivered()
        self._drop_later()

    def _drop_delivered(self) -> None:
        before = time.monotonic() - REUSED_SECONDS
        while self._delivered and next(iter(self._delivered.values())) <= before:
            uid, _ = self._delivered.popitem(last=False)
            self._store.tokens.pop(uid, None)


def _usable(token: Token | None, *, uid: str, now: float) -> bool:
    """It was granted a short time ago, and is not due for a refresh."""
    return (
        token is not None
        and now - token.issued <= HELD_SECONDS
        and now < token_rotation.refresh_at(uid, token.issued, token.expires)
    )


async def _caught(request: Awaitable[Token]) -> Token | errors.FarletError:
    """The token or the error, so that one refused audience does not cancel another request."""
    try:
        return await request
    except errors.FarletError as err:
        return err


async def request(home: ApiClient, pod: Pod, token_spec: TokenSpec, *, now: float) -> Token:
    """One TokenRequest for the pod's ServiceAccount, bound to the pod.

    `audiences` is set only if the volume names one: NodeRestriction compares literally.
    Raises what `Cluster.call` raises.
    """
    metadata = pod["metadata"]
    account = names.service_account(pod.get("spec", {}))
    spec: JSON = {
        "expirationSeconds": token_spec.expiration_seconds,
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if token_spec.audience is not None:
        spec["audiences"] = [token_spec.audience]
    answer = await home.create(
        resources.TOKEN_REQUESTS,
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        namespace=metadata["namespace"],
        name=account,
    )
    value, expires = _granted(answer)
    life = expires - (json_web_token.moment(value, "iat") or now)
    if not 0 < life < token_spec.expiration_seconds:
        # Never longer than requested: with a wrong clock or a generous server we refresh early.
        life = float(token_spec.expiration_seconds)
    # Both times by our clock: a server with a wrong clock does not make us late.
    return Token(value=value, issued=float(int(now)), expires=float(int(now + life)))


def _granted(answer: JSON) -> tuple[str, float]:
    """The token, and when it expires in epoch seconds.

    Raises `Unreachable` for anything else: an answer without a token is not one.
    """
    try:
        value, expires = answer["status"]["token"], answer["status"]["expirationTimestamp"]
        moment = timestamps.epoch(expires)
        if isinstance(value, str) and value and moment is not None:
            return value, moment
    except (KeyError, TypeError):
        pass  # nothing of the answer is reported, since it may contain a token
    raise errors.Unreachable(
        cluster="home", request="TokenRequest", cause="an answer without a valid token"
    )
