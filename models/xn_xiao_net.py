"""The prescribed place of the model: `from models.xn_xiao_net import XiaoNet`."""

from xiaonet.nn.model import XiaoNet

__all__ = ["XiaoNet"]
