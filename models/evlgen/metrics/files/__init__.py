"""Files of captions, references and answers as people have them, told apart by what is in them.

In the order in which data walks through: `opening` (what kind of file), `records` (its rows, as a stream where the kind
allows), `fields` (which column is what), then `predictions`, `references` and `answers` (the layouts), whose results
`contents` describes.
"""
