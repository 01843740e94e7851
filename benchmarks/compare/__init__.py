"""The same clip, weights and clicks through Meta's predictors, transformers' and this service's, one after the other."""

from benchmarks.compare import operators as operators
