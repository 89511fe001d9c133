"""XiaoNet: a compact seismic phase picker, distilled from PhaseNet.

Each name is imported when you first use it, so that `import xiaonet` is fast and needs no torch.
"""

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it as true; `typing` itself would be slow to import
if TYPE_CHECKING:
    from xiaonet.config.schema import Config
    from xiaonet.errors import XiaoNetError
    from xiaonet.nn.checkpoint import load_model, save_model
    from xiaonet.nn.model import PLAIN, WIDE, XiaoNet
    from xiaonet.picker import Picker
    from xiaonet.picking.picks import Pick

__version__ = "0.1.0"
_HOMES = {
    "Config": "config.schema",
    "PLAIN": "nn.model",
    "Pick": "picking.picks",
    "Picker": "picker",
    "WIDE": "nn.model",
    "XiaoNet": "nn.model",
    "XiaoNetError": "errors",
    "load_model": "nn.checkpoint",
    "save_model": "nn.checkpoint",
}
__all__ = ["PLAIN", "WIDE", "Config", "Pick", "Picker", "XiaoNet", "XiaoNetError", "__version__", "load_model", "save_model"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'xiaonet' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        return getattr(import_module(f"xiaonet.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from xiaonet.extras import install_command

        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"xiaonet.{name} needs torch: {install_command('torch')}", name="torch") from error


def __dir__() -> list[str]:
    return __all__
