"""The two losses of distillation, both from logits and both in float32 or better.

Tensors are `(batch, 3, samples)` with phases in P, S, noise order. Each loss is averaged over
time, summed over phases and averaged over the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from xiaonet.constants import NOISE

LEAST_PROBABILITY = 1e-7  # of a target, before its logarithm is taken


def task_loss(logits: Tensor, labels: Tensor, incomplete: Tensor | None = None) -> Tensor:
    """Cross-entropy with soft labels, −Σ y·log p, that teaches nothing about what nobody picked.

    Where a phase may be present unpicked, a sample labelled noise says only "not one of the
    complete phases": its label is compared with p(noise) + p(incomplete phases). Picks that such
    a record does have are taught as usual.

    Args:
        logits: of the student.
        labels: soft labels that sum to 1 over the phases.
        incomplete: `(batch, 3)` bool, true for phases that may be there unpicked; None for none.
    """
    log_p = _log_softmax(logits)
    if incomplete is not None:
        either = incomplete.clone()
        either[:, NOISE] = True
        noise = log_p.masked_fill(~either[..., None], -torch.inf).logsumexp(dim=1)
        log_p = torch.cat([log_p[:, :NOISE], noise[:, None]], dim=1)
    return -(labels * log_p).sum(dim=1).mean()


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of the softened distributions, times T² (Hinton et al. 2015, eq. 4).

    Softening is p^(1/T), renormalised over the phases, which is the softmax of logits / T.

    Args:
        logits: of the student.
        teacher_logits: of the teacher, or its log probabilities; minus infinity for a probability of 0.
        temperature: T, 1 for the distributions as they are.
    """
    student = _log_softmax(logits, temperature)
    teacher = _log_softmax(teacher_logits, temperature).exp()
    divergence = F.kl_div(student, teacher, reduction="none")  # 0·log 0 counts as 0
    return divergence.sum(dim=1).mean() * temperature**2


def soft_target_loss(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(target ‖ student) · T² for soft targets `(batch, 3, samples)`, which are probabilities at temperature 1."""
    return distillation_loss(logits, target.clamp_min(LEAST_PROBABILITY).log(), temperature)


def _log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return F.log_softmax(precise / temperature, dim=1)
