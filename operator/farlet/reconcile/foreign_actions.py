"""Actions in the foreign cluster: create, reclaim and delete the mirror, write its Secret.

`plan` decides whether to act. Every write carries the uid it was decided on, so that an object of
the same name that replaced it is never changed. The caller handles errors.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import cast

import structlog

from farlet import constants, errors, redaction
from farlet.client import resources
from farlet.client.api_client import ApiClient
from farlet.constants import JSON, ObjectKey, Reason
from farlet.context import Context
from farlet.forge import applied, dropped
from farlet.forge.conditions import Rejection
from farlet.k8s_types import Container, ObjectMeta, PartialObject, Pod, Secret
from farlet.planning import actions, api_refusals, predicates, token_rotation
from farlet.planning.actions import Step
from farlet.planning.snapshot import Sign
from farlet.reconcile import event_recorder
from farlet.reconcile.pass_state import PassState, PodTimes
from farlet.reconcile.token_requests import Tokens
from farlet.store import Store, key_of, version
from farlet.telemetry.metrics import Metrics

log = structlog.get_logger()


class ForeignActions:
    """Writes and reads in the foreign cluster."""

    def __init__(
        self,
        cluster: ApiClient,
        store: Store,
        *,
        tokens: Tokens,
        recorder: event_recorder.Recorder,
        metrics: Metrics,
        times: PodTimes,
        ctx: Callable[[], Context],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`confirm` raises unless the answers before it are of the recorded foreign cluster."""
        self._confirm = confirm
        self._cluster = cluster
        self._store = store
        self._tokens = tokens
        self._recorder = recorder
        self._metrics = metrics
        self._times = times
        self._ctx = ctx

    async def create(self, action: actions.CreateMirror, state: PassState) -> None:
        """Request the tokens, then POST the mirror."""
        uid = predicates.uid(action.home)
        first_seen = self._times.first_seen(uid)
        state.step = Step.TOKEN
        granted = await self._tokens.grant(action.home, action.token_specs)
        body = token_rotation.stamped(action.pod, granted)
        namespace = action.pod["metadata"]["namespace"]
        state.step = Step.MIRROR
        foreign = ObjectKey(namespace, action.pod["metadata"]["name"])
        self._store.posting(foreign, state.key)
        try:
            answer = await self._cluster.create(resources.PODS, body, namespace=namespace)
        except errors.Conflict as err:
            if not err.already_exists:
                raise
            # An earlier answer was lost, or an unrelated pod has the name: read it.
            await self.confirm_gone(foreign, state)
            return
        lost = dropped.message(action.pod["spec"], answer.get("spec", {}))
        self._store.put_mirror(answer)  # which keeps no more of the spec than `plan` reads
        self._store.departed.pop(foreign, None)
        self._store.posted(foreign)
        state.mirror_gone = False
        if self._store.home.remains(action.home):
            self._times.mirror_created(uid)
        self._metrics.mirror_latency.observe(time.monotonic() - first_seen)
        for field in action.unknown_fields:
            self._metrics.unknown_field(field)
        if action.continues is not None:
            self._recorder.note(action.home, *action.continues)
        if action.notices:
            self._recorder.note(
                action.home, Reason.SPEC_ADJUSTED, redaction.some(action.notices, separator="; ")
            )
        if lost is not None:
            self._recorder.note(action.home, Reason.SPEC_FIELDS_DROPPED, lost)

    async def provide_secret(self, action: actions.ProvideSecret, state: PassState) -> None:
        """Request the tokens that are not held, write the Secret, record the times."""
        home, mirror = action.home, action.mirror
        uid = predicates.uid(home)
        state.step = Step.TOKEN
        try:
            granted = await self._tokens.grant(home, action.token_specs)
        except errors.FarletError:
            self._metrics.token_refresh_failures.inc()
            raise
        state.step = Step.SECRET
        owner = predicates.reference(mirror)
        for secret in action.strategy.objects(home, granted, self._ctx(), owner):
            written = await self._write_secret(secret, existing=action.existing)
            if written is None:
                return
            if self._store.home.remains(home):
                self._times.wrote(uid, action, written["metadata"])
        times = token_rotation.record(mirror, granted)
        if times is not None:
            # This records the times, and makes the foreign kubelet read the Secret at once.
            answer = await self._patch(
                mirror, {"uid": predicates.uid(mirror), "annotations": {constants.TOKENS: times}}
            )
            self._store.put_mirror(answer)
            log.debug("home tokens refreshed", pod=str(key_of(home)))
        self._tokens.delivered(home)
        if self._store.home.remains(home):
            self._times.tokens_delivered(uid, granted)

    async def _write_secret(
        self, secret: Secret, *, existing: ObjectMeta | None
    ) -> PartialObject | None:
        """Write it. `None`: what was known of it was out of date, so decide again."""
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        try:
            if existing is not None:
                metadata = {**secret["metadata"], "uid": existing["uid"]}
                body = {**secret, "metadata": metadata}
                written = await self._cluster.patch(
                    resources.SECRETS, name, body, namespace=namespace
                )
            else:
                written = await self._cluster.create(resources.SECRETS, secret, namespace=namespace)
        except errors.NotFound:
            stored = self._store.secrets.get(ObjectKey(namespace, name))
            if existing is None or stored is None:
                raise
            uid = stored["metadata"].get("uid", "")
            self._store.secrets.remove(ObjectKey(namespace, name), uid)
            return None
        except errors.Conflict as err:
            if existing is not None or not err.already_exists:
                raise
            found = await self._cluster.get(
                resources.SECRETS.metadata_only, name, namespace=namespace
            )
            if (
                found["metadata"].get("labels", {}).get(constants.VIRTUAL_NODE_ID)
                != self._ctx().virtual_node_id
            ):
                raise errors.Refused(
                    Reason.NAME_CONFLICT,
                    f"the foreign namespace {namespace} has a Secret {name} that farlet did not "
                    "create. Delete it; the pod then starts automatically",
                ) from err
            self._store.secrets.put(found)
            return None
        self._store.secrets.put(written)
        return written

    async def add_ephemeral_container(
        self, action: actions.AddEphemeralContainer, state: PassState
    ) -> None:
        """Add it to the mirror. Raises `Refused` if the foreign cluster does not keep it."""
        state.step = Step.EPHEMERAL_CONTAINER
        mirror, container = action.mirror, action.container
        metadata, key = mirror["metadata"], key_of(mirror)
        body = {
            # With another version it was perhaps added already, by a request without an answer.
            "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
            "spec": {"ephemeralContainers": [container]},
        }
        try:
            answer = await self._cluster.patch(
                resources.POD_EPHEMERAL_CONTAINERS,
                key.name,
                body,
                namespace=key.namespace,
                content_type=resources.STRATEGIC_PATCH,
            )
        except errors.NotFound:
            self._forget(mirror)
            return
        except errors.Conflict:
            await self._read_again(mirror, state)
            return
        kept = [c for c in answer["spec"].get("ephemeralContainers", ()) if _same(c, container)]
        sent: JSON = {"ephemeralContainers": [container]}
        lost = dropped.message(sent, {"ephemeralContainers": kept}) if kept else None
        self._store.put_mirror(answer)  # which keeps no more of the spec than `plan` reads
        if not kept:
            raise errors.Refused(
                Reason.FOREIGN_REJECTED,
                "the foreign cluster accepts the ephemeral container and removes it. Find the "
                "policy there that changes ephemeral containers",
            )
        log.info("ephemeral container added", pod=str(key_of(action.home)), name=container["name"])
        if lost is not None:
            self._recorder.note(action.home, Reason.SPEC_FIELDS_DROPPED, lost)

    async def delete(self, action: actions.DeleteMirror, state: PassState) -> None:
        """DELETE the mirror of this uid."""
        mirror = action.mirror
        key = key_of(mirror)
        body: JSON = {"preconditions": {"uid": predicates.uid(mirror)}}
        if action.grace is not None:
            body["gracePeriodSeconds"] = action.grace
        try:
            answer = await self._cluster.delete(
                resources.PODS, key.name, body, namespace=key.namespace
            )
        except errors.NotFound:
            await self._not_found(mirror, state)
            return
        if predicates.still_there(answer):
            self._keep(cast("Pod", answer), state)
        elif answer.get("kind") == "Pod":
            self._left(cast("Pod", answer), Sign.ANSWER, state)
        else:
            self._forget(mirror)

    async def release(self, action: actions.ReleaseMirror, state: PassState) -> None:
        """Remove our finalizer. Raises `Refused` if the foreign cluster keeps it."""
        metadata = action.mirror["metadata"]
        kept = [f for f in metadata.get("finalizers", ()) if f != constants.OBSERVED]
        try:
            answer = await self._patch(
                action.mirror,
                # The patch replaces the whole list, so it must fail on any other version.
                {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "finalizers": kept or None,
                },
            )
        except errors.NotFound:
            await self._not_found(action.mirror, state)
            return
        except errors.Conflict:
            await self._read_again(action.mirror, state)
            return
        if not predicates.still_there(answer):
            self._left(answer, Sign.ANSWER, state)
            return
        self._keep(answer, state)
        if constants.OBSERVED in answer["metadata"].get("finalizers", ()):
            raise errors.Refused(
                Reason.FOREIGN_REJECTED,
                f"the foreign cluster accepts the removal of the finalizer {constants.OBSERVED} "
                f"from the mirror {metadata['namespace']}/{metadata['name']} and keeps it, so the "
                "mirror cannot go. Find the policy there that restores it, and exempt the "
                "finalizers of farlet.io",
            )

    async def reclaim(self, action: actions.ReclaimMirror, state: PassState) -> None:
        """Put our label and annotations back."""
        uid = predicates.uid(action.mirror)
        answer = await self._patch(
            action.mirror,
            {
                "uid": uid,
                "labels": dict(action.labels),
                "annotations": dict(action.annotations),
            },
        )
        if self._store.home.remains(action.home):
            self._times.wrote(predicates.uid(action.home), action, answer["metadata"])
        if constants.VIRTUAL_NODE_ID in answer["metadata"].get("labels", {}):
            self._keep(answer, state)
            log.warning("mirror label restored", mirror=str(key_of(action.mirror)), uid=uid)
        else:
            # No watch shows it: what is known of it must not outlive this pass.
            self._store.mirrors.remove(key_of(answer), uid, as_of=version(answer["metadata"]))
            state.unrelated = answer
            log.warning("mirror label removed again", mirror=str(key_of(action.mirror)), uid=uid)

    async def update(self, action: actions.UpdateMirror, state: PassState) -> None:
        """PATCH the mirror. A rejection is one Event, and is remembered."""
        try:
            answer = await self._change(action, resources.PODS, state)
        except (errors.Forbidden, errors.Invalid) as err:
            if not api_refusals.rejects_for_good(err):
                raise
            self._rejected(action, err)
            self._recorder.note(
                action.home,
                Reason.CHANGE_REJECTED,
                f"the foreign API server rejected the change of {redaction.some(action.fields)}: "
                f"{err.message}. The pod keeps running as before",
                once=action.wanted,
            )
            return
        if answer is not None:
            self._changed(action, answer)

    async def resize(self, action: actions.ResizeMirror, state: PassState) -> None:
        """PATCH the mirror's resources, then the record. A rejection is remembered."""
        try:
            answer = await self._change(action, resources.POD_RESIZE, state)
        except (errors.Forbidden, errors.Invalid) as err:
            final = api_refusals.rejects_for_good(err)
            if final or api_refusals.exceeds_quota(err):
                self._rejected(action, err, final=final)  # the status shows it
            if not final:
                raise
            return
        if answer is None:
            return
        generation = answer["metadata"].get("generation", 1)
        record = applied.encoded(dataclasses.replace(action.record, mirror=generation))
        annotations = {constants.APPLIED: record}
        self._changed(
            action,
            await self._patch(
                action.mirror,
                {"uid": predicates.uid(action.mirror), "annotations": annotations},
            ),
        )

    async def _change(
        self,
        action: actions.UpdateMirror | actions.ResizeMirror,
        resource: resources.Resource[Pod],
        state: PassState,
    ) -> Pod | None:
        """The answer to the PATCH; `None` if the mirror had changed, and was read again."""
        key = key_of(action.mirror)
        try:
            return await self._cluster.patch(
                resource,
                key.name,
                action.body,
                namespace=key.namespace,
                content_type=resources.STRATEGIC_PATCH,
            )
        except (errors.Conflict, errors.Invalid) as err:
            if isinstance(err, errors.Invalid) and "metadata.uid" not in err.message:
                raise
            # The mirror has changed, or another pod has its name: its uid is immutable.
            await self._read_again(action.mirror, state)
            return None

    def _changed(self, action: actions.UpdateMirror | actions.ResizeMirror, answer: Pod) -> None:
        self._store.put_mirror(answer)
        if self._store.home.remains(action.home):
            self._times.wrote(predicates.uid(action.home), action, answer["metadata"])
        log.debug("mirror changed", mirror=str(key_of(action.mirror)))

    def _rejected(
        self,
        action: actions.UpdateMirror | actions.ResizeMirror,
        err: errors.ApiError,
        *,
        final: bool = True,
    ) -> None:
        if not self._store.home.remains(action.home):
            return
        uid, rejection = predicates.uid(action.home), Rejection(err.message, final=final)
        if self._times.change_rejected(uid, action, rejection):
            mirror = str(key_of(action.mirror))
            log.warning("mirror change rejected", mirror=mirror, err=err.message)

    async def confirm_gone(self, key: ObjectKey, state: PassState) -> None:
        """Read the mirror by name: it is gone, or as it is now."""
        state.step = Step.MIRROR
        known = self._store.mirrors.uid(key)
        try:
            answer = await self._cluster.get(resources.PODS, key.name, namespace=key.namespace)
        except errors.NotFound:
            # Another cluster would have answered so, too.
            await self._confirm()
            if known is not None:
                self._store.mirrors.remove(key, known)
            state.mirror_gone = True
            return
        self._keep(answer, state)
        state.mirror_read = True

    def _keep(self, read: Pod, state: PassState) -> None:
        """Store a pod that was read by name, unless no watch would follow it."""
        key, mirrors = key_of(read), self._store.mirrors
        if predicates.is_labelled(read, virtual_node_id=self._ctx().virtual_node_id):
            self._store.put_mirror(read)
            if mirrors.uid(key) == predicates.uid(read):
                self._store.posted(key)
        elif (known := mirrors.uid(key)) is not None:
            mirrors.remove(key, known, as_of=version(read["metadata"]))
        state.unrelated = None if key in mirrors else read

    async def _read_again(self, mirror: Pod, state: PassState) -> None:
        """The mirror has changed since it was read, or another pod has its name."""
        key = key_of(mirror)
        newer = await self._cluster.get(resources.PODS, key.name, namespace=key.namespace)
        self._keep(newer, state)

    async def _patch(self, mirror: Pod, metadata: JSON) -> Pod:
        key = key_of(mirror)
        body = {"metadata": metadata}
        return await self._cluster.patch(resources.PODS, key.name, body, namespace=key.namespace)

    async def _not_found(self, mirror: Pod, state: PassState) -> None:
        """A write of the mirror was answered with 404."""
        await self._confirm()  # another cluster would have answered so, too
        self._left(mirror, Sign.NOT_FOUND, state)

    def _left(self, mirror: Pod, sign: Sign, state: PassState) -> None:
        """An answer shows that the mirror is gone."""
        self._forget(mirror)
        self._store.depart(key_of(mirror), state.key, mirror, sign)

    def _forget(self, mirror: Pod) -> None:
        self._store.mirrors.remove(key_of(mirror), mirror["metadata"]["uid"])


def _same(one: Container, other: Container) -> bool:
    return one["name"] == other["name"]
