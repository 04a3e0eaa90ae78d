"""Two home namespaces never have the same foreign namespace."""

from __future__ import annotations

import pytest

from farlet.context import NamespaceMap

LONG = "payments-" + "x" * 50

TEMPLATES = {
    "the home cluster last": "{namespace}-{home}",
    "the home cluster first": "{home}-{namespace}",
    "the namespace alone": "{namespace}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_name_that_is_too_long_has_63_characters(template: str) -> None:
    name = NamespaceMap(home="a" * 20, own="farlet", template=template).foreign(LONG)
    assert name is not None
    assert len(name) == (63 if "{home}" in template else len(LONG))


VICTIMS = {
    "a name of 59 characters": LONG,
    "a name whose cut ends with dashes": "a" * 20 + "-" * 20 + "b" * 20,
}


@pytest.mark.parametrize("victim", VICTIMS.values(), ids=VICTIMS)
@pytest.mark.parametrize("template", ["{home}-{namespace}", "{namespace}-{home}"])
def test_the_name_of_a_namespace_cannot_be_chosen_to_equal_a_cut_one(
    template: str, victim: str
) -> None:
    names = NamespaceMap(home="homes", own="farlet", template=template)
    cut = names.foreign(victim)
    assert cut is not None
    for chosen in (cut.removeprefix("homes-"), cut.removesuffix("-homes"), cut):
        assert names.foreign(chosen) != cut
    bare = NamespaceMap(home="homes", own="farlet", template="{namespace}")
    assert bare.foreign(cut) is None


@pytest.mark.parametrize(
    "namespace",
    ["shop", "a" * 58, "0123456789abcdef0123456789abcdef"],
    ids=["a short name", "as long as it may be uncut", "a hash as a name"],
)
def test_other_names_are_offloaded(namespace: str) -> None:
    names = NamespaceMap(home="home", own="farlet")
    assert names.foreign(namespace) == f"{namespace}-home"
