"""Access mode `home-short`: mode `home`, with tokens that live for ten minutes.

For pods in foreign clusters where a stolen token should be of little use. farlet refreshes tokens
at half of their lifetime, so these pods lose access after five minutes without farlet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from farlet.access import Mutation, ServiceAccountRequirement, Token, TokenSpec
from farlet.access.home import HomeAccess
from farlet.context import Context
from farlet.k8s_types import OwnerReference, Pod, PodSpec, Secret

LIFETIME = 600
"""Seconds; API servers grant no shorter one."""


class HomeShort:
    """Everything as in mode `home`, except the lifetime of tokens."""

    name = "home-short"
    summary = "the home API, with tokens that live ten minutes"

    def __init__(self) -> None:
        self._home = HomeAccess()

    def requirements(self, pod: Pod, ctx: Context) -> tuple[ServiceAccountRequirement, ...]:
        """No foreign object. Raises `Refused` while pods cannot reach the home API."""
        return self._home.requirements(pod, ctx)

    def token_specs(self, pod: Pod, ctx: Context) -> tuple[TokenSpec, ...]:
        """The tokens of mode `home`, for ten minutes each."""
        specs = self._home.token_specs(pod, ctx)
        return tuple(replace(spec, expiration_seconds=LIFETIME) for spec in specs)

    def mutate(self, spec: PodSpec, pod: Pod, ctx: Context) -> Mutation:
        """As in mode `home`."""
        return self._home.mutate(spec, pod, ctx)

    def objects(
        self, pod: Pod, tokens: Mapping[str, Token], ctx: Context, owner: OwnerReference
    ) -> tuple[Secret, ...]:
        """As in mode `home`: the Secret that contains the tokens."""
        return self._home.objects(pod, tokens, ctx, owner)
