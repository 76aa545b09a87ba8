"""Files of captions, questions and answers as people have them: read once, for training and for scoring alike.

In the order in which a file walks through: `annotation_file` (what kind of file it is), `records` (its rows), `columns`
(which column is what), then `caption_layouts` and `questions`; `splits` names splits and reads the lists beside a file.
"""
