from __future__ import annotations

import numpy as np
import pytest
import torch

from facerecon.training.losses import ssim_loss, ssim_map, weighted_l1, weighted_l2

WEIGHTS = torch.tensor([[16.0, 4.0], [3.0, 0.0]])


def test_weighted_losses_by_hand() -> None:
    target = torch.zeros(1, 3, 2, 2)
    predicted = torch.tensor([[1.0, 2.0], [-4.0, 100.0]]).expand(1, 3, 2, 2)
    # (16 * 1 + 4 * 2 + 3 * 4 + 0 * 100) / (16 + 4 + 3)
    assert weighted_l1(predicted, target, WEIGHTS).item() == pytest.approx(36 / 23)
    assert weighted_l2(predicted, target, WEIGHTS).item() == pytest.approx((16 + 16 + 48) / 23)


def test_ssim_by_hand_on_one_window() -> None:
    """The paper's formula with 1 / (N - 1), at the centre of a 3 x 3 map with a 3 x 3 window."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(2, 3, 3))
    covariance = np.cov(x.ravel(), y.ravel())
    expected = (2 * x.mean() * y.mean() + 0.026) * (2 * covariance[0, 1] + 0.058)
    expected /= x.mean() ** 2 + y.mean() ** 2 + 0.026
    expected /= covariance[0, 0] + covariance[1, 1] + 0.058
    as_map = [torch.from_numpy(a).view(1, 1, 3, 3) for a in (x, y)]
    found = ssim_map(*as_map, window=3)
    assert found[0, 0, 1, 1].item() == pytest.approx(expected)
    # in the corner the window is cut to 2 x 2
    covariance = np.cov(x[:2, :2].ravel(), y[:2, :2].ravel())
    mx, my = x[:2, :2].mean(), y[:2, :2].mean()
    corner = (2 * mx * my + 0.026) * (2 * covariance[0, 1] + 0.058)
    corner /= (mx**2 + my**2 + 0.026) * (covariance[0, 0] + covariance[1, 1] + 0.058)
    assert found[0, 0, 0, 0].item() == pytest.approx(corner)


def test_ssim_loss_is_zero_only_for_the_target_and_ignores_the_outside() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 3, 16, 16) - 0.5
    weights = torch.ones(16, 16)
    weights[:, 8:] = 0
    assert ssim_loss(target, target, weights).item() == pytest.approx(0, abs=1e-6)
    outside = target.clone()
    outside[..., 8:] += 5
    assert ssim_loss(outside, target, weights).item() == pytest.approx(0, abs=1e-6)
    assert ssim_loss(target + 0.2, target, weights).item() > 0.01


def test_losses_have_gradients_everywhere_inside() -> None:
    torch.manual_seed(0)
    for loss in (weighted_l1, weighted_l2, ssim_loss):
        predicted = (torch.rand(1, 3, 12, 12) - 0.5).requires_grad_()
        loss(predicted, torch.rand(1, 3, 12, 12) - 0.5, torch.ones(12, 12)).backward()
        assert predicted.grad is not None
        assert (predicted.grad.abs() > 0).all()


def test_ssim_equals_scikit_image() -> None:
    """The same constants and statistics in a well-kept implementation, away from the border."""
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(4)
    x, y = rng.uniform(size=(2, 32, 32))
    _, theirs = structural_similarity(
        x, y, win_size=7, data_range=1.0, K1=0.026**0.5, K2=0.058**0.5, full=True
    )
    ours = ssim_map(*(torch.from_numpy(a).view(1, 1, 32, 32) for a in (x, y)))[0, 0].numpy()
    np.testing.assert_allclose(ours[3:-3, 3:-3], theirs[3:-3, 3:-3], atol=1e-9)


def test_ssim_loss_by_hand_with_weights() -> None:
    """Constant maps: SSIM is its luminance term, and the loss the weighted mean of 1 - SSIM."""
    target, predicted = torch.full((1, 3, 9, 9), -0.3), torch.full((1, 3, 9, 9), 0.1)
    a, b = 0.2, 0.6  # moved to [0, 1]
    expected = 1 - (2 * a * b + 0.026) / (a * a + b * b + 0.026)
    weights = torch.ones(9, 9)
    assert ssim_loss(predicted, target, weights).item() == pytest.approx(expected, abs=1e-5)
    # where half of the map is right, windows wholly on its side cost nothing
    weights[:, :3], weights[:, 3:] = 16.0, 0.0
    predicted[..., :3] = target[..., :3]
    assert ssim_loss(predicted, target, weights).item() == pytest.approx(0, abs=1e-6)
