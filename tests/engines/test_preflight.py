"""Preflight: what engines would damage is refused, and the cure it names cures it."""

import random
import re

import pytest
from engines.recording_server import feature_value

from csplade_pyserini.engines.bulk import feature_limits
from csplade_pyserini.engines.catalogue import FOLDERS, SERVERS
from csplade_pyserini.engines.preflight import (
    Preflight,
    fit_queries,
    fitting_scale,
    refuse_hits,
    significant_bits,
)
from csplade_pyserini.engines.target import Document, Limits, Query
from csplade_pyserini.errors import InputError

FEATURES = feature_limits("opensearch")
TIGHT = Limits(
    engine="tight", significant_bits=8, docid_bytes=8, most_hits=10, dimensions=100, terms=3, query_terms=2
)


def checked(limits: Limits, *documents: Document) -> None:
    """Check documents as export does."""
    preflight = Preflight(limits)
    for _ in preflight.check(documents):
        pass
    preflight.refuse()


def document(impacts: list[int], docid: str = "d", dimensions: list[int] | None = None) -> Document:
    """Make a document."""
    return Document(docid, dimensions or list(range(len(impacts))), impacts, "part.jsonl", 7)


def test_an_impact_passes_exactly_if_the_field_keeps_it() -> None:
    for impact in [*range(1, 3000), 2**20, 2**20 + 1]:
        kept = feature_value(impact) == impact
        assert kept == (significant_bits(impact) <= 9)
        if kept:
            checked(FEATURES, document([impact]))
        else:
            with pytest.raises(InputError, match=rf"part.jsonl:7 \(d\) with the impact {impact}"):
                checked(FEATURES, document([impact]))


@pytest.mark.parametrize("largest", [513, 767, 941, 1025, 65_537, 2**31 - 1])
def test_the_scaling_that_is_named_makes_the_largest_impact_fit(largest: int) -> None:
    with pytest.raises(InputError) as caught:
        checked(FEATURES, document([3, largest]))
    factor = float(re.search(r"--scale (\S+) makes", str(caught.value))[1])
    assert factor == fitting_scale(largest, 9)
    scaled = round(factor * largest)
    assert scaled <= 512
    checked(FEATURES, document([max(1, round(3 * factor)), scaled]))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (document([]), ["empty", "reserved term"]),
        (document([1], dimensions=[100]), ["the dimension 100", "100 dimensions"]),
        (document([1, 2, 3, 4]), ["4 terms", "top_terms=3"]),
        (document([1], docid="ninebytes"), ["a docid of 9 bytes", "8 bytes"]),
        (document([1], docid="äöüäö"), ["a docid of 10 bytes"]),
        (document([257]), ["the impact 257", "--scale"]),
    ],
)
def test_each_kind_of_damage_is_named_with_its_place_and_cure(bad: Document, words: list[str]) -> None:
    good = document([256, 1, 4], docid="eight888", dimensions=[0, 5, 99])
    checked(TIGHT, good)
    with pytest.raises(InputError) as caught:
        checked(TIGHT, good, bad, bad)
    assert "2 documents, first part.jsonl:7" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_several_kinds_are_named_together() -> None:
    with pytest.raises(InputError, match=r"(?s)empty.*docid of"):
        checked(TIGHT, document([]), document([1], docid="much-too-long"))


def test_query_weights_are_scaled_by_a_power_of_two_so_that_scores_are_exact() -> None:
    chance = random.Random(0)
    queries = [
        Query(list(range(5)), [float(chance.randint(1, largest)) for _ in range(5)])
        for largest in (3, 64, 65, 700, 100_000)
    ]
    for query in queries:
        [scaled], factor = fit_queries(FEATURES, [query], ["q"])
        assert max(scaled.weights) <= 64
        assert factor in {2.0**power for power in range(30)}
        assert [weight * factor for weight in scaled.weights] == query.weights
        if max(query.weights) <= 64:
            assert factor == 1
        else:
            assert max(scaled.weights) > 32  # the smallest factor that does
    assert fit_queries(TIGHT, [Query([1], [1e9])], ["q"])[1] == 1


def test_a_query_with_too_many_terms_or_hits_is_refused() -> None:
    with pytest.raises(InputError, match="'q7' has 3 terms; tight takes 2"):
        fit_queries(TIGHT, [Query([1, 2, 3], [1.0, 1.0, 1.0])], ["q7"])
    with pytest.raises(InputError, match="at most 10"):
        refuse_hits(TIGHT, 11)
    refuse_hits(TIGHT, 10)


def test_every_engine_states_its_limits() -> None:
    for engine, kind in [*SERVERS.items(), *FOLDERS.items()]:
        assert kind.limits.engine == engine
