"""Captioned data: items, media, cached frozen features, batches."""
