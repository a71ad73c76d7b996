"""Clusters of similar documents: spherical k-means of TF-IDF vectors in fewer dimensions, or of a user's vectors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.splitting.documents import Document
from data.splitting.labels import Labeller
from data.splitting.sampling import Reservoir
from mixlaw.errors import ConfigError, DataError

SAMPLE = 20_000  # documents from which the clusters are learned
CLUSTER_CHARS = 10_000  # of a document that decide its cluster
BATCH = 1_000  # documents that are assigned at once
HASHES, DIMENSIONS = 1 << 16, 64  # words are hashed; latent semantic analysis keeps this many dimensions
STARTS = 5  # of k-means; the best counts
Features = Callable[[Sequence[Document]], Any]


def sample(documents: Iterable[Document], seed: int) -> list[Document]:
    """Return a random sample of documents, their texts cut to what decides the cluster."""
    chosen = Reservoir[Document](SAMPLE, seed)
    for document in documents:
        chosen.add(Document(document.text[:CLUSTER_CHARS], document.value))
    return chosen.kept


def by_cluster(learned_from: Sequence[Document], n_clusters: int, seed: int) -> Labeller:
    """Learn clusters from a sample, and return the function that assigns documents to them.

    Parameters
    ----------
    learned_from : documents; their vectors are used if they have some, else the words of their texts

    Raises
    ------
    ConfigError, DataError
        If scikit-learn is missing, the sample is too small for so many clusters, or its texts have no words.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise ConfigError("--by clusters needs scikit-learn: pip install -e '.[split]'") from None
    if len(learned_from) < n_clusters:
        raise DataError(f"--max-domains {n_clusters}: more clusters than the {len(learned_from):,} documents")
    features = _unit_vectors if learned_from[0].value is not None else _learn_words(learned_from, seed)
    lengths = [len(document.text) + 1 for document in learned_from]  # weights are shares of text, not of documents
    model = MiniBatchKMeans(n_clusters, n_init=STARTS, random_state=seed)
    model.fit(features(learned_from), sample_weight=lengths)

    def label(documents: Iterable[Document]) -> Iterator[str]:
        waiting = iter(documents)
        while batch := list(islice(waiting, BATCH)):
            yield from (f"cluster-{number}" for number in model.predict(features(batch)).tolist())

    return label


def _learn_words(documents: Sequence[Document], seed: int) -> Features:
    """Fit latent semantic analysis to texts; return the function from documents to unit vectors."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    words = HashingVectorizer(n_features=HASHES, alternate_sign=False, norm=None)
    texts = [document.text for document in documents]
    if not words.transform(texts).nnz:
        raise DataError("--by clusters: the texts have no words to compare")
    n_dimensions = min(DIMENSIONS, len(documents) - 1)
    reduced = TruncatedSVD(n_dimensions, algorithm="arpack", random_state=seed)
    pipeline = make_pipeline(words, TfidfTransformer(sublinear_tf=True), reduced, Normalizer())
    with np.errstate(divide="ignore", invalid="ignore"):  # shares of the variance, which equal texts do not have
        pipeline.fit(texts)
    return lambda batch: pipeline.transform([document.text[:CLUSTER_CHARS] for document in batch])


def _unit_vectors(documents: Sequence[Document]) -> NDArray[np.float64]:
    """Return the vectors of documents, scaled to length one.

    Raises
    ------
    DataError
        If a vector is missing, of another length than the others, or not finite.
    """
    try:
        vectors = np.stack([np.asarray(document.value, float) for document in documents])
    except (TypeError, ValueError):
        raise DataError(
            "--vectors: the vectors of some documents are missing, no numbers, or of another length"
        ) from None
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise DataError("--vectors: every document needs a list of finite numbers")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths, lengths, 1.0)
