"""Seeded fictional worlds: facts, the sentences that state them, a parser of those sentences, and questions.

The corpus stage writes documents with it; the offline writer parses and rewrites them. The parser understands only the
sentences of `grammar.py`.
"""
