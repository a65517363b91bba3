"""From a checkpoint to ONNX, and from an FP32 graph to a typed FP16 one. Part of mimo."""
