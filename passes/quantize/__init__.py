"""Post-training quantisation: ranges, weights, and the QDQ form that integer kernels compute."""
