"""Which labels become domains, what they are called, and the words that tell them apart."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.splitting.documents import Document
from data.splitting.domains import OTHER, LabelSizes, choose_domains, domain_names
from data.splitting.labels import by_column, host_of
from data.splitting.sampling import Reservoir
from data.splitting.words import typical_words
from mixlaw.errors import DataError
from mixlaw.mixture import check_domain_name


def sizes_of(**n_bytes: int) -> LabelSizes:
    sizes = LabelSizes()
    for label, n in n_bytes.items():
        sizes.add(label, n)
    return sizes


def test_the_largest_labels_become_domains_and_the_rest_has_the_last_place() -> None:
    sizes = sizes_of(en=50, de=30, fr=15, it=5)
    assert choose_domains(sizes, 4, 0.0) == {"en": "en", "de": "de", "fr": "fr", "it": "it"}
    assert list(choose_domains(sizes, 3, 0.0)) == ["en", "de"]  # the third is `other`
    assert list(choose_domains(sizes, 4, 0.1)) == ["en", "de", "fr"]


def test_documents_without_a_label_need_a_place() -> None:
    sizes = sizes_of(en=50, de=50)
    sizes.add(None, 1)
    assert list(choose_domains(sizes, 2, 0.0)) == ["de"]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [(sizes_of(en=5), "en 100 %"), (LabelSizes(total=9), "none"), (sizes_of(a=1, b=1), "a 50 %")],
)
def test_a_corpus_that_would_be_one_domain_is_refused(sizes: LabelSizes, found: str) -> None:
    with pytest.raises(DataError, match=f"in one domain; labels: .*{found}.*: lower --min-share 0.6"):
        choose_domains(sizes, 16, 0.6)


@given(st.lists(st.text(), unique=True, max_size=30))
def test_labels_get_different_allowed_names(labels: list[str]) -> None:
    names = domain_names(labels)
    assert len({*names, OTHER}) == len(labels) + 1
    assert all(check_domain_name(name) for name in names)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40).map(str), st.integers(1, 50)), max_size=300), st.integers(2, 30))
def test_sizes_are_short_by_a_bounded_part_of_the_total(documents: list[tuple[str, int]], most: int) -> None:
    sizes, exact = LabelSizes(most), Counter[str]()
    for label, n in documents:
        sizes.add(label, n)
        exact[label] += n
    assert len(sizes.n_bytes) <= most
    assert sizes.total == exact.total()
    for label, n in exact.items():
        assert n - 2 * sizes.total / most <= sizes.n_bytes.get(label, 0) <= n


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.example.org/x?y=//z", "a.example.org"),
        ("//cdn.example.org", "cdn.example.org"),
        ("EXAMPLE.org:8080", "example.org"),
        ("http://www.example.org.", "example.org"),
        ("http://[::1]/", "::1"),
        ("example.org/?to=http://b.de", "example.org"),
        ("localhost:80/a", "localhost"),
        ("http://[broken", None),
        ("mailto:d@example.org", None),
        ("javascript:void(0)", None),
        ("not a URL", None),
        ("", None),
        (7, None),
    ],
)
def test_the_host_of_a_url(url: object, host: str | None) -> None:
    assert host_of(url) == host


def test_values_of_a_column_become_labels() -> None:
    values = ["en", " en ", "", None, float("nan"), 3, 3.0, 2.5, True]
    labels = list(by_column(Document("", value) for value in values))
    assert labels == ["en", "en", None, None, None, "3", "3", "2.5", "True"]
    with pytest.raises(DataError, match=r"--column: a value is a list, \['a'\]: choose one"):
        list(by_column([Document("", ["a"])]))


def test_typical_words_are_those_that_the_other_domains_lack() -> None:
    texts = {"sea": ["the ship and the wave", "a ship"], "kitchen": ["the oven and the flour", "an oven"]}
    words = typical_words(texts, 3)
    assert words["sea"][0] == "ship"
    assert words["kitchen"][0] == "oven"
    assert "the" not in words["sea"] + words["kitchen"]


def test_a_reservoir_holds_every_item_of_a_short_stream_and_any_of_a_long_one() -> None:
    short, counts = Reservoir[int](10, 0), Counter[int]()
    for i in range(7):
        short.add(i)
    assert short.kept == list(range(7))
    for seed in range(400):
        sample = Reservoir[int](5, seed)
        for i in range(20):
            sample.add(i)
        counts.update(sample.kept)
    assert set(counts) == set(range(20))
    assert max(counts.values()) < 2 * min(counts.values())  # 100 of each on average
