"""A trained model as a file for other programs: ONNX, torch.export or safetensors, checked before it is handed on."""
