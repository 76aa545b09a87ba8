"""Closed word lists of the caption tokenizer: abbreviations, sentence starters, file suffixes.

Found by feeding every string of up to four letters, and a vocabulary of longer words, to the reference tokenizer.
"""

# Abbreviations that usually end a name or clause: before a new capitalised word their full stop also ends the sentence.
CLOSING_ABBREVIATIONS = """
al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga inc
ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt sep sept seq
sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
""".split()

# The same, where the first letter must be a capital: otherwise these are words.
CLOSING_CAPITALISED = "ark az del ill la mass miss ore pa tex wash".split()

# Abbreviations that something always follows (Dr. Who, Mt. Fuji).
OPENING_ABBREVIATIONS = """
adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft gen gov govs hon insp
invt jos lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof pvt rep reps rev sen sens sfc sgt spc st ste
supt vs wm
""".split()

# Abbreviations only in front of a number (no. 5, fig. 3).
NUMBER_ABBREVIATIONS = "art ca fig figs no nos op pp prop".split()

# After an acronym, a capital letter of one of these (and white space behind it) shows that a sentence has ended.
SENTENCE_STARTERS = """
a about according additionally after an as at but earlier he her here however if in it last many more now once one other
our she since so some such that the their then there these they this we what when while yet you
""".split()

FILE_SUFFIXES = """
bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar
txt wav x xml zip
""".split()

# Words of letters alone that are two tokens.
SPLIT_WORDS = frozenset("cannot gonna wanna gotta lemme gimme".split())
