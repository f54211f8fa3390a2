"""The two custom resources of switchboard.dev/v1alpha1 as pydantic models, one module a kind."""
