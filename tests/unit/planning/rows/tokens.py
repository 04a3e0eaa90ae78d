"""Rows: M runs, and its Secret and tokens are kept up to date."""

from __future__ import annotations

from farlet import context
from farlet.constants import API_SERVER_SUPPORT, Reason
from farlet.errors import Refused
from farlet.k8s_types import Pod
from farlet.planning.actions import NOTHING, ProvideSecret
from farlet.planning.snapshot import Missing
from unit.planning.objects import (
    CONTEXT,
    NOW,
    STRATEGIES,
    home,
    mirror,
    secret,
    shown,
    snapshot,
    times,
)
from unit.planning.rows.row import Row, looks_again, notes, provides, shows, within

_READER = shown(
    home(reads_token=True, phase="Running"),
    mirror(access_mode="home", tokens=times(NOW, NOW + 3600)),
)
_WITHOUT_ADDRESS = within(home_api=context.NotConfigured())
_READER_WITHOUT_ADDRESS = shown(
    home(reads_token=True, phase="Running"),
    mirror(access_mode="home", tokens=times(NOW, NOW + 3600)),
    _WITHOUT_ADDRESS,
)
TOKEN = STRATEGIES["home"].token_specs(home(reads_token=True), CONTEXT)[0].key
_FRESH = mirror(access_mode="home", tokens=times(NOW, NOW + 3600))


def _dialling(address: str) -> Pod:
    return mirror(access_mode="home", tokens=times(NOW, NOW + 3600), home_api=address)


ROWS = (
    Row(
        "a mirror without its Secret gets one",
        snapshot(_READER, _FRESH, secret=Missing.ABSENT),
        provides(exists=False),
    ),
    Row(
        "a Secret that belongs to another mirror is written anew",
        snapshot(_READER, _FRESH, secret=secret(of="mirror-0")),
        provides(exists=True),
    ),
    Row(
        "a Secret comes before the status",
        snapshot(home(reads_token=True), _FRESH, secret=Missing.ABSENT),
        provides(exists=False),
    ),
    Row(
        "a Secret that could not be provided does not hold up the status",
        snapshot(home(reads_token=True), _FRESH, secret=Missing.ABSENT, secret_failed=True),
        shows("Running"),
    ),
    Row(
        "a running pod gets no token for an address that is refused by now",
        snapshot(_READER, _FRESH, secret=Missing.ABSENT),
        NOTHING,
        ctx=within(
            home_api=context.Refused(
                Reason.HOME_API_CERTIFICATE_INVALID,
                "another CA",
                CONTEXT.endpoint,
                was_verified=True,
            )
        ),
    ),
    *(
        Row(
            f"a running pod keeps its address and gets tokens when {text}",
            snapshot(_READER, _FRESH, secret=Missing.ABSENT),
            provides(exists=False),
            ctx=within(home_api=home_api),
        )
        for home_api, text in (
            (context.NotConfigured(), "there is none for new pods"),
            (
                context.Refused(Reason.HOME_API_NOT_CONFIGURED, "it has no cluster IP"),
                "the Service is not usable",
            ),
            (
                context.Refused(Reason.HOME_API_UNVERIFIED, "no pod is ready"),
                "no pod behind the Service is ready",
            ),
            (
                context.Refused(Reason.FOREIGN_UNREACHABLE, "no answer"),
                "the foreign API server has not answered yet",
            ),
            (
                context.Refused(Reason.FOREIGN_UNAUTHORIZED, "401"),
                "the foreign API server does not accept farlet's credentials",
            ),
        )
    ),
    Row(
        "a running pod gets no file without a CA",
        snapshot(_READER_WITHOUT_ADDRESS, _FRESH, secret=Missing.ABSENT),
        NOTHING,
        ctx=within(home_api=context.NotConfigured(), home_ca=""),
    ),
    *(
        Row(
            f"a running pod whose Secret cannot be watched gets {text}",
            snapshot(_READER, _FRESH, secret=Missing.UNKNOWN, problem=Refused(reason, "why")),
            notes(expected),
        )
        for reason, expected, text in (
            (Reason.FOREIGN_FORBIDDEN, Reason.FOREIGN_FORBIDDEN, "an Event"),
            (Reason.FOREIGN_UNREACHABLE, None, "no Event in an outage"),
        )
    ),
    Row(
        "an unknown Secret is not written",
        snapshot(_READER, _FRESH, secret=Missing.UNKNOWN),
        NOTHING,
    ),
    Row(
        "a fresh token is due at half of its lifetime",
        snapshot(_READER, _FRESH, secret=secret()),
        looks_again(after=3600 * 0.44, before=3600 * 0.56),
    ),
    *(
        Row(
            f"a token is refreshed when {text}",
            snapshot(_READER, mirror(access_mode="home", tokens=noted), secret=secret()),
            provides(exists=True, overdue=overdue),
        )
        for noted, overdue, text in (
            (times(NOW - 2000, NOW + 1600), False, "it is due"),
            (times(NOW - 2900, NOW + 700), True, "it is overdue"),
            (times(NOW - 9000, NOW - 5400), True, "it has expired"),
            (None, False, "its times are missing"),
            ("{", False, "its times are no JSON"),
            ('{"token": "soon"}', False, "its times are no times"),
            (times(NOW, NOW + 10**9), False, "its times say that it lives for decades"),
            (times(NOW + 10**6, NOW + 10**6 + 3600), False, "it was issued in the future"),
            (times(NOW, NOW - 1), False, "it ended before it was issued"),
        )
    ),
    *(
        Row(
            f"a token that this process delivered is not refreshed when the annotation is {text}",
            snapshot(
                _READER,
                mirror(access_mode="home", tokens=noted),
                secret=secret(),
                delivered={TOKEN: (NOW - 10, NOW + 3590)},
            ),
            looks_again(after=3600 * 0.44 - 10, before=3600 * 0.56 - 10),
        )
        for noted, text in (
            (times(NOW - 9000, NOW - 5400), "changed"),
            (None, "removed"),
            ("{", "replaced by another text"),
        )
    ),
    Row(
        "a token that this process delivered is refreshed whatever the annotation says",
        snapshot(_READER, _FRESH, secret=secret(), delivered={TOKEN: (NOW - 2000, NOW + 1600)}),
        provides(exists=True),
    ),
    *(
        Row(
            f"a Secret is written anew, without a new token, when {text}",
            snapshot(_READER, _FRESH, secret=secret(ca=ca)),
            provides(exists=True, tokens=0),
        )
        for ca, text in (("another", "it holds another CA"), ("", "its CA is missing"))
    ),
    Row(
        "a token that is due brings the CA with it",
        snapshot(
            _READER,
            mirror(access_mode="home", tokens=times(NOW - 2000, NOW + 1600)),
            secret=secret(ca="another"),
        ),
        provides(exists=True),
    ),
    *(
        Row(
            f"a pod that dials {text}",
            snapshot(_READER, dialling, secret=secret()),
            notes(reason),
        )
        for dialling, reason, text in (
            (
                _dialling("198.51.100.1:443"),
                Reason.HOME_API_ENDPOINT_CHANGED,
                "an old address gets an Event",
            ),
            (_dialling(str(CONTEXT.endpoint)), None, "the address of new pods gets no Event"),
            (_FRESH, None, "an unrecorded address gets no Event"),
        )
    ),
    Row(
        "a pod that keeps its address gets no Event while new pods have none",
        snapshot(_READER_WITHOUT_ADDRESS, _dialling("198.51.100.1:443"), secret=secret()),
        notes(None),
        ctx=_WITHOUT_ADDRESS,
    ),
    Row(
        "a pod without access to home gets no Secret",
        snapshot(shown(home(), mirror()), mirror(), secret=Missing.ABSENT),
        NOTHING,
    ),
    Row(
        "an access mode that was written on the mirror fetches no home token",
        snapshot(
            shown(home(), mirror(access_mode="home")),
            mirror(access_mode="home"),
            secret=Missing.ABSENT,
        ),
        NOTHING,
    ),
    Row(
        "a running pod keeps what it has when its annotation changes",
        snapshot(
            shown(
                home(reads_token=True, annotations={API_SERVER_SUPPORT: "remote"}),
                mirror(access_mode="home"),
            ),
            mirror(access_mode="home"),
            secret=Missing.ABSENT,
        ),
        NOTHING,
    ),
    Row(
        "a running pod gets no new token while it would be refused",
        snapshot(_READER, _FRESH, secret=Missing.ABSENT),
        NOTHING,
        ctx=within(namespaces=type(CONTEXT.namespaces)(home="h", own="farlet", template=None)),
    ),
    *(
        Row(
            f"no Secret is made for {text}",
            snapshot(shown(pod, other), other, secret=Missing.ABSENT),
            lambda _, got: not isinstance(got.action, ProvideSecret),
        )
        for pod, other, text in (
            (
                home(reads_token=True, grace=30),
                mirror(access_mode="home", grace=30),
                "a terminating pod",
            ),
            (home(reads_token=True), mirror(access_mode="home", grace=30), "a terminating mirror"),
            (
                home(reads_token=True, policy="Never"),
                mirror(access_mode="home", phase="Succeeded"),
                "a finished mirror",
            ),
        )
    ),
)
