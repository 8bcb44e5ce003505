"""The portal: the pages of a node, for residents, officials, builders and the steward.

`service.py` puts them together: who is logged in, which pages this node has, the rules that every answer keeps.
`pages.py` turns a view into HTML, Dutch first, English beside. `words.py` holds the words of the frame; the words of a
page stand in its template, in both languages. `resident.py`, `official.py`, `builder.py` and `steward.py` each make
the views of one kind of reader, from what the rooms below give; `login.py` the pages of the OpenID Provider.
`charts.py` draws figures as SVG, always beside their table. No page needs JavaScript, except to make a passkey.
"""
