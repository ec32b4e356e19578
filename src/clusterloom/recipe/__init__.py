"""The guided recipe, stage by stage; `clusterloom.recipe.guided` is where to begin.

Each package knows those before it alone: `points`, `views`, `spaces`, `pseudo_labels`, then `cluster_count` and
`learning`.
"""
