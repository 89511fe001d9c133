import torch

from xiaonet import XiaoNet
from xiaonet.training.planar import planar_logits


def test_planar_logits_are_the_models_own() -> None:
    torch.manual_seed(0)
    model = XiaoNet(base_channels=3).eval()
    windows = torch.randn(2, 3, 3001)
    torch.testing.assert_close(model.logits(windows), planar_logits(model, windows), rtol=1e-4, atol=1e-6)


def test_gradients_and_running_statistics_are_the_models_own() -> None:
    torch.manual_seed(0)
    models = [XiaoNet(base_channels=2).double().train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    windows = torch.randn(2, 3, 808, dtype=torch.float64)
    models[0].logits(windows).square().mean().backward()
    planar_logits(models[1], windows).square().mean().backward()
    for (name, one), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    torch.testing.assert_close(models[0].bottleneck[1].running_mean, models[1].bottleneck[1].running_mean)
    torch.testing.assert_close(models[0].bottleneck[1].running_var, models[1].bottleneck[1].running_var)


def test_a_length_that_is_no_multiple_of_eight_repeats_the_last_sample() -> None:
    logits = planar_logits(XiaoNet(base_channels=2).eval(), torch.randn(1, 3, 19))
    assert (1, 3, 19) == logits.shape
    assert torch.equal(logits[..., 15:16].expand(-1, -1, 3), logits[..., 16:])
