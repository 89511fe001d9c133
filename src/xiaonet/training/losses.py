"""The losses of distillation. They take logits and compute in float32 or better.

Tensors are `(batch, 3, samples)` with phases in P, S, noise order. Each loss is averaged over
time, summed over phases and averaged over the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from xiaonet.constants import NOISE

LEAST_PROBABILITY = 1e-7  # of a target, before its logarithm is taken


def task_loss(logits: Tensor, labels: Tensor, incomplete: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy with soft labels, −Σ y·log p, without penalty for arrivals that nobody picked.

    Where a phase may be present without a pick, the label noise only means "none of the complete phases".
    It is compared with p(noise) + p(incomplete phases). The picks of such a record count as usual.

    Args:
        logits: of the student.
        labels: soft labels that sum to 1 over the phases.
        incomplete: `(batch, 3)` bool, true for phases that may be present without a pick; None if there are none.
    """
    log_p = _log_softmax(logits)
    if incomplete is not None:
        either = incomplete.clone()
        either[:, NOISE] = True
        noise = log_p.masked_fill(~either[..., None], -torch.inf).logsumexp(dim=1)
        log_p = torch.cat([log_p[:, :NOISE], noise[:, None]], dim=1)
    return -(labels * log_p).sum(dim=1).mean()


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Compute KL(teacher ‖ student) · T² of the softened probabilities (Hinton et al. 2015, eq. 4).

    Softened probabilities are p^(1/T), normalised over the phases. This is the softmax of logits / T.

    Args:
        logits: of the student.
        teacher_logits: of the teacher, or its log probabilities; minus infinity for a probability of 0.
        temperature: T; 1 leaves the probabilities as they are.
    """
    student = _log_softmax(logits, temperature)
    teacher = _log_softmax(teacher_logits, temperature).exp()
    divergence = F.kl_div(student, teacher, reduction="none")  # 0·log 0 counts as 0
    return divergence.sum(dim=1).mean() * temperature**2


def soft_target_loss(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute `distillation_loss` for targets `(batch, 3, samples)` that are probabilities."""
    return distillation_loss(logits, target.clamp_min(LEAST_PROBABILITY).log(), temperature)


def _log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return F.log_softmax(precise / temperature, dim=1)
