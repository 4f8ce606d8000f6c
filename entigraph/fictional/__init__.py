"""Seeded fictional worlds: the facts, the sentences that state them, a reader of those sentences, and questions.

The corpus stage writes documents with it, the offline writer reads and rewrites them. The reader understands the
sentences of `grammar.py` and nothing else: it stands in for an LLM's reading, and only here.
"""
