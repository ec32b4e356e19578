"""The number of clusters on the suite's sets with the network of one first stage and three draws of the guides.

    python benchmarks/cluster_count_rule.py digits mnist-2000      # half a minute each
    python benchmarks/cluster_count_rule.py                        # all sets whose kinds are distinct, 15 minutes
    python benchmarks/cluster_count_rule.py --smoke

Trains the first stage alone (seed 0), and shows the numbers found, the three best, the doubt and the seconds. Whole
fits are `python benchmarks/suite.py --auto`.
"""

import argparse
import time

from suite_sets import SETS, load

from clusterloom import GuidedClusterer
from clusterloom.recipe import guided
from clusterloom.recipe.cluster_count import best_counts, cluster_count_evidence, doubt_about

SKIPPED = ("mnist-70000", "mnist-thinned", "mnist-thinned-2")  # minutes each


class EnoughError(Exception):
    """The first stage is done."""


def first_stage(images, epochs):
    """Spaces and layouts that a fit would count clusters in."""
    kept = []

    def stop(network, run, spaces, layouts, views, seed, fewest, rules):
        kept.append((spaces, layouts, views, rules))
        raise EnoughError

    original, guided._choose_count = guided._choose_count, stop
    try:
        GuidedClusterer("auto", epochs=epochs, random_state=0).fit(images)
    except EnoughError:
        return kept[0]
    finally:
        guided._choose_count = original


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="NAME", help="sets of the suite")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the guides")
    parser.add_argument("--smoke", action="store_true", help="digits, few epochs")
    options = parser.parse_args()
    distinct = [s.name for s in SETS.values() if s.distinct and s.name not in SKIPPED]
    for name in ["digits"] if options.smoke else options.sets or distinct:
        spaces, layouts, views, rules = first_stage(load(name)[0], 3 if options.smoke else "auto")
        for seed in options.seeds:
            started = time.process_time()
            evidence = cluster_count_evidence(spaces, layouts, views, 2, 30, seed, rules)
            best, seconds = best_counts(evidence), time.process_time() - started
            print(
                f"{name:18} {SETS[name].k:2} kinds, seed {seed}: {best[0]:2}, the best {best}, "
                f"{seconds:.1f} s; {doubt_about(evidence) or 'no doubt'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
