"""Answers that take more than one request: cascades, ensembles, mirrors, reviews, classifiers."""
