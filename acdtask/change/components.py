"""Connected components of a graph given as pairs of nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["components"]


def components(size: int, pairs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the connected components of nodes 0 to size - 1.

    Args:
        size: number of nodes.
        pairs: shape (n, 2), the edges; duplicates and self-loops are allowed.

    Returns:
        Shape (size,), the component of each node; components are numbered from 0 in the order of their first nodes.

    >>> import numpy as np
    >>> components(5, np.array([[3, 1], [4, 3]]))
    array([0, 1, 2, 1, 1])
    """
    if not len(pairs):
        return np.arange(size, dtype=np.int64)
    graph = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    number, unordered = connected_components(graph, directed=False)
    first = np.empty(number, np.int64)
    first[unordered[::-1]] = np.arange(size - 1, -1, -1)  # the last of repeated indices wins
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    component: NDArray[np.int64] = rank[unordered]
    return component
