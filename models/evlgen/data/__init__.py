"""Captioned data: items, media, cached frozen features, batches.

>>> from evlgen.data.caption_sources import read_source
>>> from evlgen.recipes import DataSource
>>> source = read_source(DataSource(captions="captions.csv", media="clips"), "train", lower_case=True)
>>> [(item.name, item.captions) for item in source.items]
[('a.mp4', ('a red square moves',))]
>>> source.media.resolve("a.mp4")
'a.mp4'
"""
