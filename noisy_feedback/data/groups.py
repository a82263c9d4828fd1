"""What a split keeps in one part: comparisons that continue one dialogue, or share a prompt or a text."""

import numpy as np
import pandas as pd

MOST_IN_ONE_GROUP = 0.5  # of all comparisons: beyond it no split by groups has parts of about the right sizes


def group_dialogues(table: pd.DataFrame) -> np.ndarray:
    """Group numbers (J,): what continues one dialogue, at whatever depth, or shares a prompt or text, is one group."""
    openings = pd.concat([table["opening_chosen"], table["opening_rejected"]])
    return components(*np.split(pd.factorize(openings)[0], 2))


def components(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Group numbers (J,), in the order of the rows: rows are in one group if shared numbers connect them."""
    from scipy.sparse import coo_array  # half a second, which runs without human comparisons do without
    from scipy.sparse.csgraph import connected_components

    count = int(max(first.max(), second.max())) + 1
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    return pd.factorize(connected_components(graph, directed=False)[1][first])[0].astype(np.int64)
