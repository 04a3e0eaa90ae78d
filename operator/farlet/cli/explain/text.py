"""The answer of `farlet explain` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from farlet.cli.explain.facts import Report


def to_text(answer: Report) -> str:
    """For a terminal; styled where it matters."""
    return "".join(f"{line}\n" for line in _lines(answer))


def _lines(answer: Report) -> Iterator[str]:
    yield f"Pod {answer.pod}"
    yield from _rows(answer.home)
    if answer.requirements:
        yield "Requirements"
        for one in answer.requirements:
            note = f"  {one.note}" if one.note else ""
            yield f"  {one.state:<7}  {one.kind} {one.name}{note}"
    if answer.mirror:
        yield "Mirror in the foreign cluster"
        yield from _rows(answer.mirror)
    if answer.containers:
        yield "Containers"
        yield from (f"  {line}" for line in answer.containers)
    if answer.events:
        omitted = f", {answer.events_omitted} earlier ones left out" * bool(answer.events_omitted)
        yield f"Events of both clusters{omitted}"
        for event in answer.events:
            times = f" (x{event.count})" if event.count > 1 else ""
            yield (
                f"  {event.time or 'unknown':<20}  {event.cluster:<7}  {event.type:<7}  "
                f"{event.reason}{times}: {event.message}"
            )
    for line in answer.not_read:
        yield f"Not read: {line}"
    if answer.advice:
        yield "What to do"
        yield from (f"  - {line}" for line in answer.advice)
    elif answer.found:
        yield "Nothing to do." if _is_complete(answer) else "What was read shows no problem."


def _is_complete(answer: Report) -> bool:
    return not answer.not_read and all(one.state == "ok" for one in answer.requirements)


def _rows(rows: Mapping[str, str]) -> Iterator[str]:
    width = max((len(name) for name in rows), default=0)
    yield from (f"  {name:<{width}}  {value}" for name, value in rows.items())
