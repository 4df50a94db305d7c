"""Estimators of the literature that the package does not have, for the comparison of all.

``f(x, hard, palette) -> Tensor`` as in `colorquant_nn.functional.gradients`. All of them reach the
input and, where it takes part in autograd, the palette; autograd makes the gradients out of a
surrogate, a formula that can be read. Where no gradient is recorded, as in an evaluation, each
returns ``hard``. In training some do not: they say so, under "Forward".

Those that know all colours hold a number for each pixel and colour: (..., N, K).

Letters: N points, K colours, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

TINY = 1e-6
"""The least length that is divided by: of a black colour the direction is unknown."""


def with_gradient_of(surrogate: Tensor, values: Tensor) -> Tensor:
    """Values bit for bit, with the gradient of something else."""
    return values.detach() + (surrogate - surrogate.detach())


def rotation_trick(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Pass the gradient to ``x`` through the rotation and scaling that lead from it to its colour.

    Rotation and scale are constants backward, about the origin: black. The paper leaves the palette
    to another loss; here the rows get the gradient as it is.

    Forward: hard.

    Args:
        x: (..., N, C) before quantization.
        hard: (..., N, C) after.
        palette: unused.

    Returns:
        (..., N, C), ``hard``.

    References:
        Fifty et al. 2025, "Restructuring vector quantization with the rotation trick", sections
        4.1 (the estimator) and 4.2 (the rotation by reflections).

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import rotation_trick
        >>> x = torch.tensor([[0.5, 0.0]], requires_grad=True)
        >>> hard = torch.tensor([[0.0, 1.0]])  # a quarter turn, and twice as long
        >>> rotation_trick(x, hard, hard)[0, 1].backward()
        >>> x.grad.round(decimals=3)
        tensor([[2., 0.]])
    """
    if not torch.is_grad_enabled():
        return hard
    start, end = x.detach(), hard.detach()
    scale = end.norm(dim=-1, keepdim=True) / start.norm(dim=-1, keepdim=True).clamp_min(TINY)
    from_, to = normalize(start, dim=-1, eps=TINY), normalize(end, dim=-1, eps=TINY)
    middle = normalize(from_ + to, dim=-1, eps=TINY)
    along = (x * middle).sum(-1, keepdim=True)
    rotated = x - 2 * middle * along + 2 * to * (x * from_).sum(-1, keepdim=True)
    return with_gradient_of(scale * rotated + hard, hard)


def nsvq(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Put noise of the error's length in the place of the error: differentiable as it is.

    Forward: neither hard nor a colour of the palette, but ``x + |hard - x| v / |v|`` with a normal
    ``v``, a point on the sphere about ``x`` that the colour is on.

    Args:
        x: (..., N, C) before quantization.
        hard: (..., N, C) after, a differentiable function of the palette.
        palette: unused.

    Returns:
        (..., N, C); without a recorded gradient ``hard``.

    References:
        Vali and Bäckström 2022, "NSVQ: noise substitution in vector quantization for machine
        learning": the error's length times a normalized noise vector.

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import nsvq
        >>> x, hard = torch.zeros(1, 3), torch.tensor([[0.0, 0.3, 0.4]])
        >>> nsvq(x, hard, hard).norm()
        tensor(0.5000)
    """
    if not torch.is_grad_enabled():
        return hard
    direction = normalize(torch.randn_like(x), dim=-1, eps=TINY)
    return x + (hard - x).norm(dim=-1, keepdim=True) * direction


@dataclass(eq=False)
class DiVeQ:
    """Add the error as a length that has a gradient, in a direction that has none.

    ``x + |hard - x| sg(v / |v|)`` with ``v = hard - x + n``, ``n`` normal. Without noise the
    gradient of ``x`` loses its part along the error, which goes to the colour.

    Forward: hard without noise. With noise near the colour, at its distance from ``x``.

    Args:
        variance: of the noise in each channel, in squared units of [0, 1] colours; 0 is the
            detached variant. The paper has 1e-3 or 1e-2; its authors' program (diveq 0.1.3) takes
            its 1e-3 for the standard deviation, which is a variance of 1e-6.

    References:
        Vali, Bäckström and Solin 2026, "DiVeQ: differentiable vector quantization using the
        reparameterization trick", arXiv 2509.26469.

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import DiVeQ
        >>> x = torch.zeros(1, 2, requires_grad=True)
        >>> hard = torch.tensor([[0.0, 0.5]], requires_grad=True)
        >>> DiVeQ(variance=0)(x, hard, hard).sum().backward()
        >>> x.grad, hard.grad
        (tensor([[1., 0.]]), tensor([[0., 1.]]))
    """

    variance: float = 1e-3

    def __call__(self, x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        """The input plus its error, see the class."""
        if not torch.is_grad_enabled():
            return hard
        error = hard - x
        towards = error.detach() + self.variance**0.5 * torch.randn_like(x)
        moved = x + error.norm(dim=-1, keepdim=True) * normalize(towards, dim=-1, eps=TINY)
        return moved if self.variance > 0 else with_gradient_of(moved, hard)


def log_likelihood(x: Tensor, palette: Tensor, temperature: float) -> Tensor:
    """Minus the squared distance by the temperature, up to a number for each point: (..., N, K)."""
    return (2 * x @ palette.mT - palette.square().sum(-1).unsqueeze(-2)) / temperature


def gumbel_noise(like: Tensor) -> Tensor:
    """Samples of the standard Gumbel distribution: who adds them to logits draws by the largest."""
    return -torch.empty_like(like).exponential_().log()


def drawn(logits: Tensor) -> Tensor:
    """The largest as (..., K) zeros and a one."""
    return one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


@dataclass(eq=False)
class GumbelStraightThrough:
    """Draw a colour by its likelihood, and differentiate the softmax of the noisy likelihoods.

    ``softmax((-|x - c_k|^2 / temperature + g_k) / relaxation)`` backward, its largest forward; the
    relaxation is 1.

    Forward: a colour of the palette, but drawn, with probabilities
    ``softmax(-|x - c_k|^2 / temperature)``: seldom one that is far, often the second where two are
    near.

    Args:
        temperature: squared distance, in units of [0, 1] colours, above 0.

    References:
        Jang, Gu and Poole 2017, "Categorical reparameterization with Gumbel-softmax", equations 1
        and 2 and section 2.2 (straight-through).

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import GumbelStraightThrough
        >>> palette = torch.tensor([[0.0], [1.0]])
        >>> x = torch.full((1000, 1), 0.4, requires_grad=True)  # |x - c|^2 of 0.16 and 0.36
        >>> _ = torch.manual_seed(0)
        >>> values = GumbelStraightThrough(temperature=0.2)(x, torch.zeros(1000, 1), palette)
        >>> values.unique().tolist(), 0.2 < values.mean().item() < 0.35  # 1 / (1 + e) is 0.27
        ([0.0, 1.0], True)
    """

    temperature: float

    def __call__(self, x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        """A drawn colour, see the class."""
        if not torch.is_grad_enabled():
            return hard
        logits = log_likelihood(x, palette, self.temperature)
        noisy = logits + gumbel_noise(logits)
        return with_gradient_of(noisy.softmax(-1), drawn(noisy)) @ palette


@dataclass(eq=False)
class ReinMax:
    """Draw a colour, and differentiate to the second order (Heun's method).

    For a loss that is quadratic in the choice the mean over the draws is exactly the gradient of
    the expected loss.

    Forward: a colour of the palette, drawn as in `GumbelStraightThrough`.

    Args:
        temperature: squared distance, in units of [0, 1] colours, above 0; the paper's own
            temperature, of the sharpened probabilities, is 1.

    References:
        Liu et al. 2023, "Bridging discrete and backpropagation: straight-through and beyond",
        algorithm 2.

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import ReinMax
        >>> x = torch.full((1, 1), 0.5, requires_grad=True)
        >>> ReinMax(temperature=1.0)(x, torch.ones(1, 1), torch.tensor([[0.0], [1.0]])).backward()
        >>> x.grad
        tensor([[0.5000]])
    """

    temperature: float

    def __call__(self, x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        """A drawn colour, see the class."""
        if not torch.is_grad_enabled():
            return hard
        logits = log_likelihood(x, palette, self.temperature)
        choice = drawn(logits + gumbel_noise(logits)).detach()
        probability = logits.softmax(-1)
        half_way = ((choice + probability) / 2).detach()
        # Of the value `half_way`, and with the slope of a softmax there.
        tilted = (half_way.clamp_min(1e-30).log() + logits - logits.detach()).softmax(-1)
        return with_gradient_of(2 * tilted - probability / 2, choice) @ palette


@dataclass(eq=False)
class DecoupledStraightThrough:
    """Draw a colour at one temperature, and differentiate the softmax at another.

    `colorquant_nn.functional.gradients.soft` is that with a draw of temperature 0.

    Forward: a colour of the palette, drawn as in `GumbelStraightThrough`.

    Args:
        forward_temperature: of the draw: squared distance, in units of [0, 1] colours, above 0.
        backward_temperature: of the softmax, in the same unit.

    References:
        Shah et al. 2026, "Improving discrete optimisation via decoupled straight-through
        estimator", arXiv 2410.13331, version 2; the first, of 2024, is of the Gumbel-softmax.

    Examples:
        >>> import torch
        >>> from experiments.network.gradient_estimators import DecoupledStraightThrough
        >>> x = torch.full((1, 1), 0.5, requires_grad=True)
        >>> estimator = DecoupledStraightThrough(0.1, 0.5)
        >>> estimator(x, torch.ones(1, 1), torch.tensor([[0.0], [1.0]])).backward()
        >>> x.grad
        tensor([[1.]])
    """

    forward_temperature: float
    backward_temperature: float

    def __call__(self, x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        """A drawn colour, see the class."""
        if not torch.is_grad_enabled():
            return hard
        likely = log_likelihood(x.detach(), palette.detach(), self.forward_temperature)
        choice = drawn(likely + gumbel_noise(likely))
        mixed = log_likelihood(x, palette, self.backward_temperature).softmax(-1)
        return with_gradient_of(mixed, choice) @ palette
