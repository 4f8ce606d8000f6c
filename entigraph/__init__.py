"""Synthetic continued pretraining: from niche documents to a scaling curve."""

__version__ = "0.1.0"
