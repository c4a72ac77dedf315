"""The published noising, loss and solver: 500 steps of linear variance, DPM-Solver++ of order 3.

Promises: guidance is stated in both scales. The publication's weight w pushes away from the unconditional
answer, eps_c + w (eps_c - eps_u); the usual scale s weighs eps_u + s (eps_c - eps_u); s = w + 1, so the
published w = 1.8 acts as s = 2.8.

Source: BUSGen, arXiv 2501.06869, and its released code; Ho et al. 2020, arXiv 2006.11239 (noising); Lu et
al. 2022, arXiv 2211.01095 (DPM-Solver++); Ho and Salimans 2022, arXiv 2207.12598 (guidance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DPMSolverSinglestepScheduler

TIMES = 500
EVALUATIONS = 50  # of the solver; guidance asks the network twice for each
ORDER = 3
GUIDANCE_W = 1.8
_FIRST_VARIANCE, _LAST_VARIANCE = 1e-4, 0.028

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def usual_scale(w: float) -> float:
    """The publication's guidance weight `w` in the usual scale: s = w + 1."""
    return w + 1


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, w: float) -> torch.Tensor:
    """Predicted noise under guidance of weight `w` in the publication's scale."""
    return unconditional + usual_scale(w) * (conditional - unconditional)


def kept_shares() -> torch.Tensor:
    """alpha-bar of every time, (500,): the share of the clean picture's variance that is left."""
    variance = torch.linspace(_FIRST_VARIANCE, _LAST_VARIANCE, TIMES, dtype=torch.float64)
    return torch.cumprod(1 - variance, dim=0)


def add_noise(picture: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Pictures (n, c, h, w) with as much noise as there is at `times`, int64 (n,)."""
    kept = kept_shares().to(picture.device)[times].float()[:, None, None, None]
    return kept.sqrt() * picture + (1 - kept).sqrt() * noise


def make_solver(evaluations: int = EVALUATIONS) -> DPMSolverSinglestepScheduler:
    """The single-step DPM-Solver++ of diffusers, order 3, set to the published times; ends at time 0."""
    solver = DPMSolverSinglestepScheduler(
        num_train_timesteps=TIMES,
        beta_start=_FIRST_VARIANCE,
        beta_end=_LAST_VARIANCE,
        beta_schedule="linear",
        solver_order=ORDER,
        algorithm_type="dpmsolver++",
        thresholding=False,
        lower_order_final=True,
        final_sigmas_type="sigma_min",
    )
    starts = [index for index, order in enumerate(solver.get_order_list(evaluations)) if order == 1]
    times = solver_times(solver.lambda_t.double().numpy(), [*starts, evaluations])
    solver.set_timesteps(timesteps=times)
    return solver


def solver_times(half_log_snr: npt.NDArray[np.float64], starts: Sequence[int]) -> list[int]:
    """The times at which the network is asked, falling; `half_log_snr` (times,) falls too.

    Steps begin at the evaluations `starts` (the last one is the end) and are even in time; the evaluations
    inside a step are even in the half log-SNR, to the nearest whole time.
    """
    even = np.linspace(len(half_log_snr) - 1, 0, starts[-1] + 1)
    times: list[float] = []
    for start, stop in pairwise(starts):
        first, last = np.interp(even[[start, stop]], np.arange(len(half_log_snr)), half_log_snr)
        inside = np.linspace(first, last, stop - start + 1)[:-1]
        times += np.rint(np.interp(inside, half_log_snr[::-1], np.arange(len(half_log_snr))[::-1])).tolist()
    return [int(time) for time in times]


@torch.no_grad()
def solve(
    predict: Predict, noise: torch.Tensor, evaluations: int = EVALUATIONS, only: int | None = None
) -> torch.Tensor:
    """From noise (n, c, h, w) to pictures: `predict(noisy, time)` is asked `evaluations` times.

    `only`: stop after so many evaluations, where the time they take is all that is wanted.
    """
    solver = make_solver(evaluations)
    for time in solver.timesteps[:only]:
        noise = solver.step(predict(noise, time), time, noise).prev_sample
    return noise
