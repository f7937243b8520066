"""Trained networks as files that run without this package: torch.export, ONNX, safetensors, and what describes them."""
