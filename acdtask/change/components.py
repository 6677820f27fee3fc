"""Connected components of a graph that is given as pairs of nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["components"]


def components(size: int, pairs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the connected components of nodes 0 to size - 1.

    Args:
        size: how many nodes there are.
        pairs: shape (n, 2), the nodes that are joined; repeats and loops do no harm.

    Returns:
        Shape (size,), the component of each node, numbered from 0 by its first node.

    >>> import numpy as np
    >>> components(5, np.array([[3, 1], [4, 3]]))
    array([0, 1, 2, 1, 1])
    """
    if not len(pairs):
        return np.arange(size, dtype=np.int64)
    graph = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    number, found = connected_components(graph, directed=False)
    first = np.empty(number, np.int64)
    first[found[::-1]] = np.arange(size - 1, -1, -1)  # of repeated indices the last one counts
    rank = np.empty(number, np.int64)
    rank[np.argsort(first)] = np.arange(number)
    component: NDArray[np.int64] = rank[found]
    return component
