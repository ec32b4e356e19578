"""What a user is told of the number of clusters: which it is, how far it is in doubt, and how it was found."""

from collections.abc import Sequence

from clusterloom.recipe.cluster_count.evidence import (
    AGREED,
    APART,
    DOUBLED,
    STABILITY_COUNTS,
    Evidence,
    best_counts,
    ranked,
    that_lie_apart,
)

_CLOSE = 0.005  # scores that differ by less are nearly as good
_STABLE = 0.65  # guides that keep less to the clusters have found no groups that are there


def doubt_about(evidence: Sequence[Evidence]) -> str:
    """Why the number may be another one, as half a sentence; empty where there is no reason to doubt it."""
    reasons = []
    if ranked(evidence)[0].stability < _STABLE:
        reasons.append("the images fall into no clear groups")
    if close := _nearly_as_good(evidence):
        reasons.append(f"{' or '.join(map(str, close))} would be nearly as good")
    return ", and ".join(reasons)


def _nearly_as_good(evidence: Sequence[Evidence]) -> list[int]:
    """Those of the next best two numbers whose scores are close to the best one."""
    best, *others = ranked(evidence)
    apart = that_lie_apart(evidence)
    return [e.n_clusters for e in others[:2] if (e in apart or not apart) and e.score > best.score - _CLOSE]


def advice_on(evidence: Sequence[Evidence]) -> str:
    """What a user is told: the number, the next best ones, and where it is in doubt why and how to ask for another."""
    best, *others = best_counts(evidence)
    if not others:
        return f"{best} clusters"
    next_best = f"; next best: {' and '.join(map(str, others))}"
    doubt = doubt_about(evidence)
    if not doubt:
        return f"{best} clusters{next_best}"
    if _nearly_as_good(evidence) == others:
        next_best = ""  # as the doubt says
    ask = " or ".join(f"-k {k}" for k in others)
    return f"{best} clusters, but the number is in doubt: {doubt}{next_best} (ask for one with {ask})"


def explanation_of(evidence: Sequence[Evidence]) -> str:
    """What the evidence is, and how it was weighed, in a few sentences."""
    price = evidence[0]
    return (
        "The numbers that look best at first sight were looked at closely. "
        "Modularity is the share of neighbours that are in the same cluster, beyond chance. Stability says "
        "how far all that was asked keeps the images of a cluster together (1: always, 0: no more than by chance). "
        "Agreement is the share of pairs of spaces that find the same clusters, and coverage the share of neighbours "
        f"that are in the same cluster. Numbers with an agreement above {AGREED} and a coverage above {APART} go "
        "first, and of these or, where there are none, of all the one with the highest score: modularity, "
        f"{STABILITY_COUNTS} of the stability and {price.cost:.2f} times the concentration. That is the sum of the "
        "clusters' squared shares of the images where these are far from equal, and otherwise 1 over the number, as if "
        f"all were of one size. Of more than {price.many:.0f} clusters, which have few images here, the coverage may "
        f"be {DOUBLED} lower whenever they double."
    )
