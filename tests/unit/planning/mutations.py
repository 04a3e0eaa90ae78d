"""Mistakes that the plan could hold, seeded one at a time, and which test tells of each.

An edit replaces a piece of the source of `plan.py` or `predicates.py` that must stand there exactly
once, so that a mutation which no longer applies is told of. `row` is the sentence of a row of the
table that catches it. `story` is a piece of bad luck in which a whole farlet with this mistake
does harm, so that it shows without anybody knowing the table; where there is none, other rows or
the reconciler stand in the way, and only the row tells. `at_random`: the random stories of
`test_converges.py` come upon it often enough to be asserted, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unit.planning.world import Step

PLAN, MIRRORS = "plan", "predicates"


@dataclass(frozen=True, slots=True)
class Edit:
    """In the source of this module, `new` stands where `old` stood."""

    module: str
    old: str
    new: str = ""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake."""

    says: str
    edits: tuple[Edit, ...]
    row: str
    story: tuple[Step, ...] = ()
    at_random: bool = field(default=False, kw_only=True)


def _run(policy: str, mode: str = "disabled") -> Step:
    return Step("create", ("a", policy, mode), 3.0)


_NOT_ASKED_ABROAD = Edit(
    PLAN,
    """    if not s.mirror_gone:
        return Decision(ConfirmMirrorGone())
    if not predicates.runs_again""",
    "    if not predicates.runs_again",
)

MUTATIONS = (
    Mutation(
        "takes a home side that is not listed for empty",
        (
            Edit(
                PLAN,
                "    if home is Missing.UNKNOWN:\n        return NOTHING\n"
                "    if home is Missing.ABSENT:\n",
                "    if isinstance(home, Missing):\n",
            ),
            Edit(PLAN, "    if not s.home_gone:\n        return Decision(ConfirmHomeGone())\n"),
        ),
        "an unknown home side never ends a mirror",
        (_run("Always"), Step("outage", ("home",)), Step("restart", (), 8.0)),
        at_random=True,
    ),
    Mutation(
        "takes an unseen foreign side for empty",
        (
            Edit(
                PLAN,
                "    if s.mirror is Missing.UNKNOWN:\n"
                "        return _blind(s, home, ctx=ctx, strategies=strategies, "
                "mirrored=mirrored)\n",
            ),
            _NOT_ASKED_ABROAD,
        ),
        "an unseen mirror of restartPolicy Never is not lost",
        (_run("Never"), Step("outage", ("foreign",)), Step("restart", (), 8.0)),
        at_random=True,
    ),
    Mutation(
        "calls a mirror lost without looking for it live",
        (_NOT_ASKED_ABROAD,),
        "an absent mirror of restartPolicy Never is looked for live",
        (_run("Never"), Step("forge_label", ("a",), 3.0)),
    ),
    Mutation(
        "runs restartPolicy Never again",
        (Edit(MIRRORS, '    return policy != "Never"\n', "    return True\n"),),
        "a lost mirror of restartPolicy Never fails its home pod",
        (_run("Never"), Step("strip", ("a",), 3.0)),
    ),
    Mutation(
        "runs restartPolicy OnFailure again after a success",
        (
            Edit(
                MIRRORS,
                "        return not status.ran_to_success(home) and not (\n"
                "            last is not None and status.ran_to_success(last)\n"
                "        )\n",
                "        return True\n",
            ),
        ),
        "a lost mirror of restartPolicy OnFailure is not made again after a success "
        "of its last run",
    ),
    Mutation(
        "runs a finished pod again",
        (
            Edit(
                PLAN,
                "    if is_terminal(home):\n        # One that left",
                "    if not home:\n        # One that left",
            ),
        ),
        "a Failed pod of restartPolicy Always never runs again, its mirror gone",
        (_run("Always"), Step("evict", ("a",), 3.0)),
        at_random=True,
    ),
    Mutation(
        "takes a finished mirror for deleted when only its label is gone",
        (Edit(PLAN, "Decision(ConfirmMirrorGone()) if doubtful else NOTHING", "NOTHING"),),
        "a finished pod's mirror that left the watch undeleted is looked for live",
    ),
    Mutation(
        "leaves the mirror of a finished pod running",
        (
            Edit(
                PLAN,
                "    if is_terminal(home) and not is_deleting(home) and not over:\n",
                "    if not mirror:\n",
            ),
        ),
        "a finished home pod ends a mirror that still runs",
        (_run("Always"), Step("evict", ("a",), 3.0)),
        at_random=True,
    ),
    Mutation(
        "removes a home pod before its mirror has ended",
        (
            Edit(
                PLAN,
                "    if not s.mirror_gone:\n        return Decision(ConfirmMirrorGone())\n"
                "    if mirrored:\n",
                "    if mirrored:\n",
            ),
        ),
        "a leaving pod asks live before it is removed, its mirror being unseen",
        (
            _run("Always"),
            Step("outage", ("foreign",)),
            Step("restart", (), 3.0),
            Step("delete", ("a",), 8.0),
        ),
    ),
    Mutation(
        "lets a mirror go before its end is told",
        (
            Edit(
                PLAN,
                "    if reflected.action is not None:\n",
                "    if reflected.action is not None and not is_finished(mirror):\n",
            ),
        ),
        "the finalizer stays until the final status stands at home",
        (_run("Never"), Step("exit", ("a", 0), 3.0)),
        at_random=True,
    ),
    Mutation(
        "takes the mirror of an earlier pod for its own",
        (
            Edit(
                MIRRORS,
                '        annotations[vocabulary.HOME_UID] == home["metadata"].get("uid")\n',
                "        vocabulary.HOME_UID in annotations\n",
            ),
        ),
        "the mirror of an earlier pod of the name ends first",
        (_run("Never"), Step("delete", ("a", 0)), _run("Never"), Step("exit", ("a", 0), 3.0)),
        at_random=True,
    ),
    Mutation(
        "deletes a stranger that has the name",
        (
            Edit(
                PLAN,
                "    if is_ours(mirror, virtual_node_id=ctx.virtual_node_id):\n"
                "        return _remove",
                "    if mirror:\n        return _remove",
            ),
        ),
        "a stranger of the name is told and never touched",
        (Step("intrude", ("a",)), _run("Always")),
        at_random=True,
    ),
    Mutation(
        "leaves its label off",
        (
            Edit(
                PLAN,
                "    if not is_ours(mirror, virtual_node_id=ctx.virtual_node_id):\n        whose",
                "    if not mirror:\n        whose",
            ),
        ),
        "the label of a mirror that home names by uid is put back",
        (_run("Always"), Step("forge_label", ("a",), 3.0)),
    ),
    Mutation(
        "makes no Secret again",
        (
            Edit(
                PLAN,
                "            if strategy.objects(home, {}, ctx, owner):\n",
                "            if not strategy:\n",
            ),
        ),
        "a mirror without its Secret gets one",
        (_run("Always", "home"), Step("burn", ("a",), 3.0)),
        at_random=True,
    ),
    Mutation(
        "leaves a running pod with an old CA",
        (
            Edit(
                PLAN,
                "    if not predicates.holds(secret,",
                "    if secret is None and not (secret,",
            ),
        ),
        "a Secret is written anew, without a new token, when it holds another CA",
    ),
    Mutation(
        "does not hurry a mirror whose home pod got less time",
        (
            Edit(
                MIRRORS,
                "    return left is not None and given is not None and left < given\n",
                "    return False\n",
            ),
        ),
        "a shorter grace is passed on",
    ),
)
