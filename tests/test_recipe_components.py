"""Principal components."""

import numpy as np
import pytest

from clusterloom.recipe.points import components as module


@pytest.mark.parametrize(("n", "part"), [(50, 7), (50, 50), (4, 50)])
def test_principal_components_are_those_of_the_whole_however_many_points_are_in_memory(monkeypatch, n, part):
    monkeypatch.setattr(module, "_PART", part)
    points = (np.random.default_rng(0).standard_normal((n, 6)) * np.arange(1, 7)).astype(np.float32)
    found = module.principal_components(points, 3)
    left, sizes, _ = np.linalg.svd(points.astype(float) - points.mean(0, dtype=float), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(left * sizes)[:, :3], rtol=1e-4, atol=1e-5)
