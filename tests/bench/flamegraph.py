"""Self time by function, from a flame graph that py-spy has written as SVG."""

import bisect
import dataclasses
import itertools
import re
from collections import Counter
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_FRAME = "{http://github.com/jonhoo/inferno}"
_TITLE = re.compile(r"(.*) \([\d,]+ samples?, [\d.]+%\)", re.DOTALL)


@dataclasses.dataclass(frozen=True, order=True)
class _Frame:
    """One box: `depth` grows with the stack; `start` and `samples` are its place in a row."""

    depth: float
    start: int
    samples: int
    name: str


def self_samples(svg: str) -> Counter[str]:
    """Samples during which each function was at the end of the stack, by `name (file:line)`."""
    frames = sorted(_frames(svg))
    rows = [list(row) for _, row in itertools.groupby(frames, key=lambda frame: frame.depth)]
    found: Counter[str] = Counter()
    for row, below in zip(rows, [*rows[1:], []], strict=False):
        starts = [frame.start for frame in below]
        for frame in row:
            first = bisect.bisect_left(starts, frame.start)
            end = bisect.bisect_left(starts, frame.start + frame.samples)
            own = frame.samples - sum(called.samples for called in below[first:end])
            if own:
                found[frame.name] += own
    return found


def table(found: Counter[str], *, count: int, rate: int, most: int = 30) -> str:
    """The functions with the longest self time: share, and ms per pod of `count`.

    `rate` is the number of samples per second.
    """
    whole = sum(found.values()) or 1
    lines = [f"{'self':>7}{'ms per pod':>12}  function"]
    lines += [
        f"{samples / whole:7.1%}{samples / rate / count * 1000:12.3f}  {name}"
        for name, samples in found.most_common(most)
    ]
    return "\n".join(lines)


def _frames(svg: str) -> list[_Frame]:
    frames = []
    for group in ElementTree.fromstring(svg).iter(f"{_SVG}g"):
        title, box = group.find(f"{_SVG}title"), group.find(f"{_SVG}rect")
        match = None if title is None else _TITLE.fullmatch(title.text or "")
        if box is None or match is None:
            continue
        start, samples = (int(box.attrib[f"{_FRAME}{key}"]) for key in "xw")
        frames.append(_Frame(float(box.attrib["y"]), start, samples, match[1]))
    return frames
