"""The runtime torch, which reads `.pth` files."""

from pathlib import Path

from xiaonet.runtime.predictor import RuntimePredictor, Windows


class TorchPredictor(RuntimePredictor):
    """A model file on torch, on the CPU. Raises as `load_predictor` does.

    Torch has one number of threads for the whole process (`torch.set_num_threads`, `OMP_NUM_THREADS`), so
    `threads` has no effect.
    """

    runtime, suffixes = "torch", (".pth",)

    def __init__(self, path: Path, threads: int = 1) -> None:
        import torch

        from xiaonet.nn.checkpoint import load_model, read_model_file
        from xiaonet.nn.model import XiaoNet

        header = read_model_file(path)
        self._model = load_model(path).float()
        parameters = sum(weight.numel() for weight in XiaoNet(**header["arguments"]).parameters())  # a quantized model has others
        super().__init__(path, path.read_bytes(), {**header, "parameters": parameters}, torch.__version__)

    def infer(self, windows: Windows) -> Windows:
        """Compute probabilities of windows of any length."""
        import torch

        with torch.inference_mode():
            probabilities: Windows = self._model(torch.from_numpy(windows)).numpy()
        return probabilities
