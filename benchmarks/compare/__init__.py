"""The same clip, weights and clicks through Meta's predictor, transformers' and this service's, one after the other."""
