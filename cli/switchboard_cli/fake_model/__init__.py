"""A model server that speaks the OpenAI API, has vLLM's metrics, and misbehaves on demand.

`switchboard fake-model` runs it; tests run it in their own process with `server.serve`.
"""
