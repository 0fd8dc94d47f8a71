"""Managed Inference: the HTTP dialects, catalogue, tokenisation, dispatch and the worker.

A web process imports everything here but `worker` and `engine`, and so never imports torch.
"""
