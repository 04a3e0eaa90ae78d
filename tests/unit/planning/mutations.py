"""Mistakes that the plan could hold, seeded one at a time, and which test finds each.

`row` is the sentence of a row of the table that catches it. `story` is a piece of bad luck in which
a whole farlet with this mistake does harm, so that it shows without knowledge of the table; where
there is none, other rows or the reconciler stand in the way, and only the row fails. `seed`: the
random stories of `test_converges.py` meet it often enough to be asserted, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unit.planning.fake_cluster import Fault
from unit.planning.mutants import (
    DEADLINE,
    EPHEMERAL,
    POD_SECRET,
    PREDICATES,
    WISHES,
    Answers,
    Change,
    Replaced,
    Skipped,
)
from unit.planning.world import Step


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake."""

    sentence: str
    changes: tuple[Change, ...]
    row: str
    story: tuple[Step, ...] = ()
    seed: int | None = field(default=None, kw_only=True)
    """From which one of the first ten random stories meets it. Other seeds take up to 600."""


def _run(policy: str, mode: str = "disabled") -> Step:
    return Step("create", ("a", policy, mode), 3.0)


_DEBUG = Step("debug", ("a", "debug"), 3.0)
_FINAL = "restart_policies.final(home, last)"
_NOT_CONFIRMED = Skipped("_without_mirror", "not gone")
_FOLLOWS = "not is_terminal(home) and (follow := _follow(s, home)) is not None"
_OURS = "_is_ours(s, mirror, ctx=ctx)"
_MARKED = "predicates.is_marked(home, mirror, virtual_node_id=ctx.virtual_node_id)"

MUTATIONS = (
    Mutation(
        "takes an unlisted home side for empty",
        (
            Skipped("_row", "home is Missing.UNKNOWN"),
            Replaced("_row", "home is Missing.ABSENT", by="isinstance(home, Missing)"),
            Skipped("_orphaned", "not s.home_gone"),
        ),
        "an unknown home side never ends a mirror",
        (_run("Always"), Step("outage", ("home",)), Step("restart", (), 8.0)),
        seed=49,
    ),
    Mutation(
        "creates a mirror before its ConfigMaps and Secrets have copies",
        (Skipped("_create", "copied is not None"),),
        "a pod waits for the copy of an object that exists",
    ),
    Mutation(
        "does not create a foreign namespace for its first pod",
        (Skipped("_foreign_side_unknown", "_is_missing(s)"),),
        "the first pod of a namespace has its foreign namespace created",
    ),
    Mutation(
        "leaves a pod that has run without its foreign namespace",
        (
            Replaced(
                "_foreign_side_unknown",
                "Decision(CreateNamespace()) if _is_missing(s) else NOTHING",
                by="NOTHING",
            ),
        ),
        "a pod that had a mirror has a foreign namespace that is gone created",
    ),
    Mutation(
        "creates no foreign namespace for a lost mirror",
        (Skipped("_create", "_is_missing(s)"),),
        "a lost mirror has a foreign namespace that is gone created",
    ),
    Mutation(
        "never tries again to create a foreign namespace for a lost mirror",
        (Replaced("_create", "not _is_missing(s)", by="True"),),
        "a foreign namespace whose creation was refused is tried again for a lost mirror",
    ),
    Mutation(
        "creates a foreign namespace in another cluster",
        (Replaced("_is_missing", "s.foreign_confirmed", by="True"),),
        "no namespace is created in a cluster that is not confirmed",
    ),
    Mutation(
        "creates a foreign namespace for a pod that cannot run there",
        (
            Replaced(
                "_foreign_side_unknown",
                "pods.forge_mirror(home, strategy=strategy, ctx=ctx, anchor=None, token_times={}, "
                "restarts={})",
                by="None",
            ),
        ),
        "no namespace is created for a pod with a feature that is not allowed",
    ),
    Mutation(
        "creates a mirror before the Services of its namespace are reflected",
        (Skipped("_create", "not s.services_ready"),),
        "a new pod waits until the Services of its namespace are reflected",
    ),
    Mutation(
        "creates a mirror before the claims of its pod are known",
        (Skipped("_foreign_claims", "isinstance(state, Missing)"),),
        "a pod waits until all its claims are known",
    ),
    Mutation(
        "does not say why a claim cannot be used",
        (Skipped("_foreign_claims", "isinstance(state, Refused)"),),
        "a pod whose claim cannot be used waits with the reason",
    ),
    Mutation(
        "does not say that an object is kept at home",
        (Skipped("_copies", "isinstance(state, Refused)"),),
        "a pod that refers to an object that is kept at home waits with this reason",
    ),
    Mutation(
        "forgets after a restart what running pods refer to",
        (
            Skipped(
                "_with_mirror", "not is_terminal(home) and (follow := _follow(s, home)) is not None"
            ),
        ),
        "what a running pod refers to is followed after a restart",
    ),
    Mutation(
        "follows what a finished pod refers to",
        (
            Replaced(
                "_with_mirror",
                _FOLLOWS,
                by="(follow := _follow(s, home)) is not None",
            ),
        ),
        "nothing that a finished pod refers to is followed",
    ),
    Mutation(
        "ignores a misspelled annotation without a word",
        (
            Skipped(
                "_unknown_annotation",
                "key.lower().startswith(_SIMILAR) and key not in _ANNOTATIONS",
            ),
        ),
        "a misspelled annotation is reported while the pod waits",
    ),
    Mutation(
        "takes the answers of another foreign cluster for those of its own",
        (Skipped("_row", "not s.foreign_confirmed"),),
        "a Never pod whose mirror another cluster lacks keeps its status",
    ),
    Mutation(
        "finishes deletions on the word of another foreign cluster",
        (Skipped("_row", "not s.foreign_confirmed"),),
        "a terminating pod whose mirror another cluster lacks stays and reports why",
    ),
    Mutation(
        "takes a 404 that is not confirmed for a failure of the pod",
        (Skipped("_failed", "isinstance(err, Unconfirmed)"),),
        "a 404 that is not confirmed ends nothing and is asked again",
    ),
    Mutation(
        "takes an unknown foreign side for empty",
        (
            Skipped(
                "_without_mirror",
                "s.mirror is Missing.UNKNOWN and (s.namespace_open or not gone)",
            ),
            _NOT_CONFIRMED,
        ),
        "an unknown mirror of restartPolicy Never is not lost",
        (_run("Never"), Step("outage", ("foreign",)), Step("restart", (), 8.0)),
        seed=23,
    ),
    Mutation(
        "calls a mirror lost without reading it live",
        (_NOT_CONFIRMED,),
        "an absent mirror of restartPolicy Never is read live",
        (_run("Never"), Step("forge_label", ("a",), 3.0)),
    ),
    Mutation(
        "runs restartPolicy Never again",
        (Replaced("runs_again", _FINAL, by="None", module=PREDICATES),),
        "a lost mirror of restartPolicy Never fails its home pod",
        (_run("Never"), Step("strip", ("a",), 3.0)),
    ),
    Mutation(
        "runs restartPolicy OnFailure again after a success",
        (
            Replaced(
                "runs_again",
                _FINAL,
                by="restart_policies.final({**home, 'status': {}}, None)",
                module=PREDICATES,
            ),
        ),
        "a lost mirror of restartPolicy OnFailure is not recreated after a success of its last run",
    ),
    Mutation(
        "runs a container of restartPolicy Never again",
        (
            Replaced(
                "runs_again",
                _FINAL,
                by="restart_policies.final("
                "{**home, 'spec': {**home['spec'], 'containers': []}}, None)",
                module=PREDICATES,
            ),
        ),
        "a lost mirror with a container of restartPolicy Never fails its home pod",
        (_run("Always, its container Never"), Step("strip", ("a",), 3.0)),
    ),
    Mutation(
        "runs a finished pod again",
        (Skipped("_without_mirror", "is_terminal(home)"),),
        "a Failed pod of restartPolicy Always never runs again, its mirror gone",
        (_run("Always"), Step("evict", ("a",), 3.0)),
        seed=47,
    ),
    Mutation(
        "takes a finished mirror for deleted when only its label is gone",
        (
            Replaced(
                "_without_mirror",
                "_confirm_mirror_gone(s) if unconfirmed else NOTHING",
                by="NOTHING",
            ),
        ),
        "a finished pod's mirror that left the watch without a deletion is read live",
    ),
    Mutation(
        "leaves a finished mirror its finalizer when its label is removed while it is deleted",
        (
            Replaced(
                "_without_mirror",
                "s.last is not None and predicates.is_released(s.last['metadata'])",
                by="s.last is not None and is_deleting(s.last)",
            ),
        ),
        "a finished pod's mirror that left the watch while its finalizer held it is read live",
    ),
    Mutation(
        "leaves the mirror of a finished pod running",
        (Skipped("_with_mirror", "is_terminal(home) and not is_deleting(home) and not over"),),
        "a finished home pod ends a mirror that still runs",
        (_run("Always"), Step("evict", ("a",), 3.0)),
        seed=47,
    ),
    Mutation(
        "removes a home pod before its mirror has ended",
        (Skipped("_deleted", "not gone"),),
        "a terminating pod's mirror is read live before the pod is removed, if unknown",
        (
            _run("Always"),
            Step("outage", ("foreign",)),
            Step("restart", (), 3.0),
            Step("delete", ("a",), 8.0),
        ),
    ),
    Mutation(
        "reads a mirror again whose end it has seen",
        (Answers("_ended", "False"),),
        "a terminating pod is removed without reading its mirror again after the event of its end",
    ),
    Mutation(
        "takes a mirror whose label was removed for one that has ended",
        (
            Replaced(
                "is_released",
                "shown.get('deletionGracePeriodSeconds') == 0",
                by="True",
                module=PREDICATES,
            ),
        ),
        "a terminating pod's mirror is read live when its label was removed while it was being "
        "deleted",
        (
            _run("Always"),
            Step("freeze", (True,)),
            Step("delete", ("a",), 0.4),
            Step("forge_label", ("a",), 0.4),
        ),
    ),
    Mutation(
        "takes a mirror that a finalizer holds for one that has ended",
        (Replaced("is_released", "shown.get('finalizers')", by="False", module=PREDICATES),),
        "a terminating pod's mirror is read live when an event shows it with a finalizer",
        (
            _run("Never"),
            Step("freeze", (True,)),
            Step("delete", ("a",), 0.4),
            Step("discard", ("a", 0)),
            Step("forge_label", ("a",), 0.4),
        ),
    ),
    Mutation(
        "forgets that it requested another mirror, whose answer was lost",
        (
            Replaced(
                "_ended",
                "departure.posted or departure.doubted or departure.sign is Sign.LIST",
                by="departure.doubted or departure.sign is Sign.LIST",
            ),
        ),
        "a terminating pod's mirror is read live when another one was requested since its end",
        (
            _run("Always"),
            Step("fault", ("foreign", Fault.DONE, Fault.LOST)),
            Step("discard", ("a", 0), 0.01),
            Step("lag", ("foreign", 4.0), 0.1),
            Step("delete", ("a",), 3.0),
        ),
    ),
    Mutation(
        "believes what it has seen of a foreign cluster that was restored",
        (
            Replaced(
                "_ended",
                "departure.posted or departure.doubted or departure.sign is Sign.LIST",
                by="departure.posted or departure.sign is Sign.LIST",
            ),
        ),
        "a terminating pod's mirror is read live when the foreign cluster was in doubt since its "
        "end",
    ),
    Mutation(
        "takes a mirror that a list lacks for one that has ended",
        (
            Replaced(
                "_ended",
                "departure.posted or departure.doubted or departure.sign is Sign.LIST",
                by="departure.posted or departure.doubted",
            ),
        ),
        "a terminating pod's mirror is read live when a list lacks it",
    ),
    Mutation(
        "takes the end of an earlier mirror for that of the one that home names",
        (Skipped("_ended", "uid(departure.last) != status.mirrored_uid(home)"),),
        "a terminating pod's mirror is read live when another one than home names has ended",
    ),
    Mutation(
        "believes what it has seen although the watch is broken",
        (Replaced("_certainly_gone", "s.mirror is Missing.ABSENT", by="True"),),
        "a terminating pod's mirror is read live when its end was seen and the watch is broken",
    ),
    Mutation(
        "removes a pod whose mirror has ended before it shows that end",
        (Skipped("_deleted", "written.action is not None"),),
        "a terminating pod whose mirror is gone shows its end first",
    ),
    Mutation(
        "releases a mirror before its end is shown",
        (
            Replaced(
                "_with_mirror",
                "reflected.action is not None",
                by="reflected.action is not None and not is_finished(mirror)",
            ),
        ),
        "the finalizer stays until home shows the final status",
        (_run("Never"), Step("exit", ("a", 0), 3.0)),
        seed=2,
    ),
    Mutation(
        "takes the mirror of an earlier pod for its own",
        (
            Replaced(
                "is_marked",
                "mirror['metadata']['annotations'][constants.HOME_UID] == uid",
                by="True",
                module=PREDICATES,
            ),
        ),
        "the mirror of an earlier pod of the name ends first",
        (_run("Never"), Step("delete", ("a", 0)), _run("Never"), Step("exit", ("a", 0), 3.0)),
        seed=3,
    ),
    Mutation(
        "deletes an unrelated pod that has the name",
        (Replaced("_name_taken", _OURS, by="True"),),
        "an unrelated pod of the name is reported and never changed",
        (Step("intrude", ("a",)), _run("Always")),
        seed=22,
    ),
    Mutation(
        "takes a pod of another home namespace for its own",
        (
            Replaced(
                "is_ours",
                "annotations.get(constants.HOME_NAMESPACE) == home_namespace",
                by="True",
                module=PREDICATES,
            ),
        ),
        "a pod of another home namespace does not end with a home pod of its name",
    ),
    Mutation(
        "does not restore its label",
        (Skipped("_with_mirror", f"not {_MARKED}"),),
        "the label of a mirror that home names by uid is restored",
        (_run("Always"), Step("forge_label", ("a",), 3.0)),
    ),
    Mutation(
        "does not restore the annotation that names the home pod",
        (Replaced("_with_mirror", f"not {_MARKED}", by=f"not {_OURS}"),),
        "a mirror that home names by uid is ours whatever its annotations say, and gets them back",
    ),
    Mutation(
        "does not recreate a Secret",
        (
            Replaced(
                "decide",
                "ProvideSecret(home, mirror, strategy, token_specs, None, wanted)",
                by="None",
                module=POD_SECRET,
            ),
        ),
        "a mirror without its Secret gets one",
        (_run("Always", "home"), Step("burn", ("a",), 3.0)),
        seed=32,
    ),
    Mutation(
        "leaves a running pod with an old CA",
        (
            Skipped(
                "decide",
                "not predicates.holds(secret, required)",
                module=POD_SECRET,
            ),
        ),
        "a Secret is written anew, without a new token, when it holds another CA",
    ),
    Mutation(
        "leaves files with old labels and annotations",
        (
            Replaced(
                "holds",
                "marks.get(constants.METADATA_FILES) in "
                "{None, present.get(constants.METADATA_FILES)}",
                by="True",
                module=PREDICATES,
            ),
        ),
        "annotations in a file are written anew when they change",
    ),
    Mutation(
        "updates a mirror before the files of labels and annotations",
        (
            Skipped(
                "_change",
                "write is due.update and s.secret_failed and metadata_files.contents(home)",
            ),
        ),
        "a mirror is not updated before its files when the Secret could not be written",
    ),
    Mutation(
        "does not report labels and annotations that do not fit into the Secret",
        (Answers("_files_too_large", "None", module=POD_SECRET),),
        "annotations that became too large for the Secret of a running pod are an Event",
    ),
    Mutation(
        "ignores that the grace period of a home pod got shorter",
        (
            Replaced(
                "grace_shorter",
                "left is not None and given is not None and left < given",
                by="False",
                module=PREDICATES,
            ),
        ),
        "a shorter grace is passed on",
    ),
    Mutation(
        "writes the first status of a new mirror at once",
        (Answers("_only_scheduled", "False"),),
        "the first status of a new mirror is held back while no kubelet has reported",
    ),
    Mutation(
        "never writes the status of a mirror that is scheduled and no more",
        (Replaced("_paced", "held > 0 and _only_scheduled(s)", by="_only_scheduled(s)"),),
        "the first status of a mirror is written after two seconds",
    ),
    Mutation(
        "writes every status of a pod that changes all the time",
        (Replaced("_paced", "excess > 0 and not is_deleting(patch.home)", by="False"),),
        "the status of a pod that changes all the time waits",
    ),
    Mutation(
        "holds back the status of a pod that is being deleted",
        (Replaced("_paced", "excess > 0 and not is_deleting(patch.home)", by="excess > 0"),),
        "the status of a pod that is being deleted does not wait although it changed all the time",
    ),
    Mutation(
        "asks lagging caches again only after the longest pause",
        (
            Replaced(
                "_failed",
                "min(max(s.ages.first_seen, LAG_FIRST_SECONDS), LAG_LAST_SECONDS)",
                by="LAG_LAST_SECONDS",
            ),
        ),
        "a refusal by lagging caches after 0.02 s is tried again after 0.02 s",
    ),
    Mutation(
        "writes a reason anew each time its message differs",
        (Answers("_repeats", "False"),),
        "another message of the same reason is not written within a minute",
    ),
    Mutation(
        "writes no second reason within a minute",
        (
            Replaced(
                "_repeats",
                "patch.home.get('status', {}).get('reason') == patch.event[0]",
                by="True",
            ),
        ),
        "another reason is written at once",
    ),
    Mutation(
        "reports what lagging caches refuse",
        (
            Skipped(
                "_failed",
                "api_refusals.lags(err, name=s.key.name) and s.ages.first_seen < LAG_SECONDS",
            ),
        ),
        "a refusal by lagging caches is tried again in a moment without a report",
    ),
    Mutation(
        "ignores how long caches have lagged",
        (Replaced("_failed", "s.ages.first_seen < LAG_SECONDS", by="True"),),
        "a refusal as by lagging caches is reported after ten seconds",
    ),
    Mutation(
        "recreates a mirror that is deleted on sight without a pause",
        (Answers("_pause", "0.0"),),
        "a mirror that was lost at once is recreated after a second",
    ),
    Mutation(
        "never shortens the pause between mirrors",
        (
            Replaced(
                "_pause",
                "min(RECREATE_FIRST_SECONDS * 2.0**doublings, RECREATE_LAST_SECONDS)",
                by="RECREATE_FIRST_SECONDS * 2.0**doublings",
            ),
        ),
        "the pause grows to five minutes",
    ),
    Mutation(
        "believes the annotation about tokens that this process delivered",
        (Replaced("decide", "s.delivered", by="{}", module=POD_SECRET),),
        "a token that this process delivered is not refreshed when the annotation is changed",
    ),
    Mutation(
        "never gives up a pod on a lost foreign node",
        (Answers("_overdue_in", "1.0"),),
        "a pod whose mirror does not end is evicted once it is marked",
    ),
    Mutation(
        "evicts a pod although a dead watch may hide the end of its mirror",
        (Skipped("_evict", "not s.mirror_read"),),
        "a mirror that does not end is read before its pod is marked",
    ),
    Mutation(
        "evicts a pod before the grace period of its mirror is over",
        (Replaced("_overdue_in", "ends_by - s.now", by="-3600.0"),),
        "a mirror that another user deleted has a minute more than its grace period",
    ),
    Mutation(
        "evicts a pod although it cannot see its mirror",
        (
            Replaced(
                "_overdue_in", "ends_by is None or not s.mirrors_in_sync", by="ends_by is None"
            ),
        ),
        "a pod is not evicted while the watch of its mirror is broken",
    ),
    Mutation(
        "creates a mirror whose Secret it cannot watch",
        (
            Skipped(
                "_create",
                "required and s.secret is Missing.UNKNOWN and s.problem is not None "
                "and not _is_missing(s)",
            ),
        ),
        "a pod that needs a Secret waits with the reason why Secrets cannot be watched",
    ),
    Mutation(
        "does not report a Secret that it cannot watch",
        (Answers("_unwatched", "None", module=POD_SECRET),),
        "a running pod whose Secret cannot be watched gets an Event",
    ),
    Mutation(
        "leaves a mirror whose home pod is gone a grace period of decades",
        (Skipped("_remove", "predicates.grace(mirror) > ORPHAN_GRACE_SECONDS"),),
        "a mirror that gives itself 2147483648 s ends within thirty seconds when its home pod is "
        "gone",
    ),
    Mutation(
        "sends a write again that had no effect",
        (Answers("in_vain", "False", module=WISHES),),
        "a status that home did not keep is not written again",
    ),
    Mutation(
        "never sends a write a second time",
        (
            Replaced(
                "in_vain",
                "one.version == version",
                by="True",
                module=WISHES,
            ),
        ),
        "a status that home did not keep is written again once home has changed",
    ),
    Mutation(
        "releases a mirror whose end home refuses to show",
        (Replaced("_with_mirror", "predicates.shows_more(home, desired)", by="False"),),
        "the finalizer stays when home did not keep the final status",
    ),
    Mutation(
        "creates a mirror with an anchor in doubt",
        (Skipped("_create", "s.anchor_doubted"),),
        "a new pod waits until an anchor in doubt is read again",
    ),
    Mutation(
        "creates a mirror without an anchor",
        (Skipped("_create", "s.anchor is None"),),
        "nothing is created without an anchor",
    ),
    Mutation(
        "ignores what changes in a pod that runs",
        (Skipped("_with_mirror", "(change := _change(s, due, home, mirror)) is not None"),),
        "a label that changed in a running pod travels",
        (_run("Always"), Step("change", ("a", "x"), 3.0)),
    ),
    Mutation(
        "sends a change again that was rejected",
        (
            Replaced("_due", "_rejected_for_good(s)", by="()"),
            Replaced("_change", "write is None or write.wanted in not_now", by="write is None"),
        ),
        "a change that was rejected is not sent again",
    ),
    Mutation(
        "sends no change after one that was rejected",
        (Replaced("_change", "write.wanted in not_now", by="not_now"),),
        "a change after one that was rejected is sent",
    ),
    Mutation(
        "changes the mirror of a pod that ends",
        (
            Replaced(
                "_with_mirror",
                "not (over or is_terminal(home) or is_deleting(home))",
                by="True",
            ),
        ),
        "a change of a pod that is being deleted does not travel",
    ),
    Mutation(
        "sends no resize",
        (Replaced("_change", "(due.update, due.resize)", by="(due.update,)"),),
        "a resize travels after other changes",
    ),
    Mutation(
        "does not show that a resize was rejected",
        (
            Replaced(
                "_reflected",
                "s.rejected.get(due.resize.wanted, conditions.UNANSWERED)",
                by="conditions.UNANSWERED",
            ),
        ),
        "a resize that the foreign cluster rejected is shown as infeasible",
    ),
    Mutation(
        "gives up a resize that exceeded a quota",
        (Replaced("_rejected_for_good", "rejection.final", by="True"),),
        "a resize that exceeds a foreign quota is sent again",
    ),
    Mutation(
        "repeats a change that has just failed",
        (
            Replaced(
                "_change", "_rejected_for_good(s) | s.held_back.keys()", by="_rejected_for_good(s)"
            ),
        ),
        "a change that has failed is held back",
    ),
    Mutation(
        "forgets a change that has failed",
        (Replaced("_with_mirror", "_until_change(s, due, wait)", by="wait"),),
        "a change that has failed is held back",
    ),
    Mutation(
        "gives each further mirror the whole deadline",
        (
            Replaced(
                "_create",
                "changes.with_deadline_left(forged.pod, home, now=s.now)",
                by="forged.pod",
            ),
        ),
        "a further mirror gets what is left of the deadline",
    ),
    Mutation(
        "removes a pod that ran in a namespace that cannot be read any more",
        (Replaced("_certainly_gone", "status.mirrored_uid(home) is None", by="True"),),
        "a terminating pod that ran in a namespace no longer offloaded stays and reports why",
    ),
    Mutation(
        "reads a namespace that is not watched",
        (Skipped("_deleted", "not gone and not s.namespace_open"),),
        "before the inventory is read a terminating pod that never ran stays",
    ),
    Mutation(
        "takes an inventory that was not read for empty",
        (Replaced("_certainly_gone", "s.namespace_unused", by="True"),),
        "before the inventory is read a terminating pod that never ran stays",
    ),
    Mutation(
        "reads a mirror where none was ever created",
        (Answers("_certainly_gone", "s.mirror_gone"),),
        "a terminating pod is removed without a request where nothing was ever created",
    ),
    Mutation(
        "never adds an ephemeral container to a mirror",
        (Skipped("_with_mirror", "add is not None"),),
        "an ephemeral container is added to the mirror",
        (_run("Always"), _DEBUG),
    ),
    Mutation(
        "adds an ephemeral container that ran to the next mirror",
        (
            Replaced(
                "_with_mirror",
                "reflected.action is not None",
                by="reflected.action is not None and add is None",
            ),
        ),
        "an ephemeral container that ran is not added to the next mirror",
        (_run("Always"), _DEBUG, Step("freeze", (True,)), Step("discard", ("a", 0), 8.0)),
    ),
    Mutation(
        "adds ephemeral containers to a mirror that is being deleted",
        (Replaced("_with_mirror", "over or is_terminal(home) or is_deleting(home)", by="False"),),
        "no ephemeral container is added to a mirror that is being deleted",
    ),
    Mutation(
        "lets what a rejected ephemeral container refers to leave home",
        (Skipped("_with_mirror", "any((one.rejected for one in held))"),),
        "nothing that a rejected ephemeral container refers to leaves home",
    ),
    Mutation(
        "adds an ephemeral container before its ConfigMaps and Secrets have copies",
        (Skipped("_judged", "state is Copied.PENDING", module=EPHEMERAL),),
        "an ephemeral container waits for the copies of what it refers to",
    ),
    Mutation(
        "does not say why an ephemeral container waits",
        (Skipped("_judged", "isinstance(state, Refused)", module=EPHEMERAL),),
        "an ephemeral container waits with the reason why an object is not copied",
    ),
    Mutation(
        "reports one rejected ephemeral container at a time",
        (
            Replaced(
                "shown",
                "{one.name: one.state for one in held}",
                by="{one.name: one.state for one in list(held)[:1]}",
                module=EPHEMERAL,
            ),
        ),
        "all rejected ephemeral containers are reported in one status, with one Event",
    ),
    Mutation(
        "gives an ephemeral container the API of another access mode",
        (Skipped("_of_mirror", "strategy is None or strategy.name != mode", module=EPHEMERAL),),
        "an ephemeral container does not get the API of another access mode",
    ),
    Mutation(
        "takes a missing permission for a rejected ephemeral container",
        (
            Skipped(
                "rejected",
                "not final or refused is None or refused.reason is not Reason.FOREIGN_REJECTED",
                module=EPHEMERAL,
            ),
        ),
        "a missing permission for ephemeral containers is an Event, and it is tried again",
    ),
    Mutation(
        "sends an ephemeral container again that was rejected",
        (Skipped("_failed", "isinstance(failure.action, AddEphemeralContainer)"),),
        "an ephemeral container that is not valid there is terminated with the answer",
    ),
    Mutation(
        "names a profile of kubectl debug that does not help",
        (
            Replaced(
                "_advice",
                "any((f'\"{name}\"' in text for name in others))",
                by="False",
                module=EPHEMERAL,
            ),
        ),
        "no profile is named where Pod Security blames another container, too",
    ),
    Mutation(
        "lets a pod wait past its active deadline",
        (Answers("_is_overdue", "False"),),
        "a pod that waits past its deadline is Failed",
    ),
    Mutation(
        "lets a mirror wait for a node past the active deadline",
        (Skipped("_with_mirror", "lives and s.mirrors_in_sync and _is_overdue(s, home, mirror)"),),
        "a pod whose mirror is not scheduled is Failed at its deadline",
    ),
    Mutation(
        "fails a pod at its deadline although it cannot see its mirror",
        (
            Replaced(
                "_with_mirror",
                "lives and s.mirrors_in_sync and _is_overdue(s, home, mirror)",
                by="lives and _is_overdue(s, home, mirror)",
            ),
        ),
        "a mirror that was not scheduled never fails a pod while its watch is broken",
    ),
    Mutation(
        "fails a pod at its deadline without reading its mirror live",
        (_NOT_CONFIRMED,),
        "a pod that waits past its deadline is Failed, its mirror being read live first",
    ),
    Mutation(
        "fails a pod at its deadline on what a watch has shown of its mirror",
        (Replaced("_with_mirror", "s.mirror_read", by="True"),),
        "a mirror that was not scheduled is read live before its pod is Failed at its deadline",
    ),
    Mutation(
        "ends a pod at its deadline that a foreign kubelet has",
        (Answers("_has_kubelet", "False", module=DEADLINE),),
        "the deadline of a pod that a foreign kubelet has is not farlet's duty",
    ),
    Mutation(
        "forgets the active deadline until something else happens",
        (Answers("_until_deadline", "decision"),),
        "a pod that waits is decided on again when its deadline passes",
    ),
    Mutation(
        "removes a pod that never started before it is Failed",
        (Skipped("_deleted", "written.action is not None"),),
        "a terminating pod that never had a mirror is Failed first, as with a kubelet",
    ),
    Mutation(
        "leaves a pod that finalizers hold as it was when it was forced to go",
        (Replaced("_deleted", "held and is_terminal(home)", by="held"),),
        "the end of a pod that only others' finalizers hold is shown",
    ),
    Mutation(
        "does not say that a pod waits no longer",
        (Answers("_continues", "None"),),
        "a pod that has waited with a reason has an Event when its mirror is created",
    ),
)
