"""The guided recipe, stage by stage; `clusterloom.recipe.guided` is where to begin."""
