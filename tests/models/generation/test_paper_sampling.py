"""The published noising, solver and guidance, against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.generation.paper import diffusion  # noqa: E402
from models.generation.paper.boxes import fit_box_prior  # noqa: E402
from models.generation.paper.network import PaperUNet  # noqa: E402
from models.generation.paper.sample import Asked, predictor, sample  # noqa: E402
from tests.models.generation.small import NETWORK, SIDE  # noqa: E402


def test_noise_grows_as_published():
    kept = diffusion.kept_shares()
    assert kept.shape == (500,)
    assert float(kept[0]) == pytest.approx(1 - 1e-4)
    assert float(kept[-1]) == pytest.approx(8.3e-4, rel=0.01)
    assert float(kept[1] / kept[0]) == pytest.approx(1 - 1e-4 - (0.028 - 1e-4) / 499)
    picture, noise = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    noisy = diffusion.add_noise(picture, noise, torch.tensor([0, 499]))
    assert torch.allclose(noisy[0], picture[0], atol=0.05)
    assert torch.allclose(noisy[1], noise[1], atol=0.05)
    solver = diffusion.make_solver()
    assert torch.allclose(solver.alphas_cumprod.double(), kept, rtol=1e-4)


def test_both_scales_of_guidance_agree():
    conditional, unconditional = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    w = diffusion.GUIDANCE_W
    assert w == 1.8
    assert diffusion.usual_scale(w) == pytest.approx(2.8)
    ours = diffusion.guided(conditional, unconditional, w)
    assert torch.allclose(ours, conditional + w * (conditional - unconditional), atol=1e-5)
    assert torch.allclose(ours, unconditional + 2.8 * (conditional - unconditional), atol=1e-5)
    assert torch.equal(diffusion.guided(conditional, conditional, w), conditional)


def test_fifty_evaluations_of_which_all_but_the_last_two_are_of_order_three():
    solver = diffusion.make_solver()
    times = solver.timesteps.tolist()
    assert len(times) == 50
    assert times[0] == 499
    assert sorted(times, reverse=True) == times
    assert len(set(times)) == 50
    assert solver.order_list == [1, 2, 3] * 16 + [1, 2]
    # Steps are even in time, evaluations inside a step in the half log-SNR.
    assert np.abs(np.diff(times[:48:3]) + 3 * 499 / 50).max() < 1
    start, one, two, end = (float(solver.lambda_t[times[index]]) for index in (45, 46, 47, 48))
    assert [(one - start) / (end - start), (two - start) / (end - start)] == pytest.approx(
        [1 / 3, 2 / 3], abs=0.05
    )


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_the_solver_finds_the_known_solution(spread):
    """For pictures of white noise, best prediction and solution are known in closed form."""
    kept = diffusion.kept_shares()
    noise = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def predict(noisy, time):
        return (1 - kept[time]).sqrt() * noisy / (kept[time] * spread**2 + 1 - kept[time])

    ends = kept[[0, -1]] * spread**2 + 1 - kept[[0, -1]]
    exact = noise * (ends[0] / ends[1]).sqrt()

    def error(evaluations):
        return float((diffusion.solve(predict, noise, evaluations) - exact).abs().max() / exact.abs().max())

    assert error(50) < 0.015
    assert error(100) < error(50) / 4  # of higher order than one: that halves its error


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PaperUNet(NETWORK).eval()


def asked(kind=1, device=2):
    return Asked(kind, device, torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.6, 0.5, 0.9, 0.8]]))


def test_an_image_asks_the_network_a_hundred_times(network):
    seen = []
    hook = network.register_forward_hook(lambda module, given, answer: seen.append(len(given[0])))
    pictures = sample(network, [asked()], SIDE, seed=1)
    hook.remove()
    assert sum(seen) == 100
    assert pictures.shape == (1, 3, SIDE, SIDE)
    assert float(pictures.min()) >= 0
    assert float(pictures.max()) <= 1


def test_the_same_seed_gives_the_same_pictures(network):
    first, again, other = (sample(network, [asked()], SIDE, seed, evaluations=4) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_guidance_asks_with_and_without_the_condition(network):
    drawn, labels = torch.ones(1, 1, SIDE, SIDE), torch.tensor([[2, 3]])
    noisy, time = torch.randn(1, 3, SIDE, SIDE), torch.tensor(40)
    with torch.no_grad():
        answer = predictor(network, drawn, labels, 1.8)(noisy, time)
        conditional = network(torch.cat([noisy, drawn], 1), time, labels).sample
        nothing = network(torch.cat([noisy, drawn * 0], 1), time, labels * 0).sample
    assert torch.allclose(answer, conditional + 1.8 * (conditional - nothing), atol=1e-5)


def test_the_box_prior_draws_training_values_in_new_combinations():
    training = np.array([[0.1, 0.1, 0.3, 0.2], [0.5, 0.4, 0.6, 0.9], [0.0, 0.5, 0.5, 1.0]], np.float32)
    drawn = fit_box_prior(training).draw(400, seed=5)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    inside = drawn[(drawn > 0).all(1) & (drawn < 1).all(1)]
    ratios = (inside[:, 3] - inside[:, 1]) / (inside[:, 2] - inside[:, 0])
    near = np.abs(ratios[:, None] - np.array([0.5, 5.0, 1.0])).min(1)
    assert np.quantile(near, 0.95) < 0.02, "ratios are those of training boxes"
    centres = (inside[:, :2] + inside[:, 2:]) / 2
    of_first = np.abs(centres - [0.2, 0.15]).max(1) < 0.01
    of_fifth = np.abs(ratios - 5.0) < 0.05
    assert (of_first & ~of_fifth).any(), "a centre goes with any ratio"
    assert np.array_equal(drawn, fit_box_prior(training).draw(400, seed=5))
