"""ONNX graphs as data: read without the onnx package, trees walked by a compiled pass."""
