"""Parcel series and pixel sets out of image archives, for any parcel layer.

:mod:`.reader` holds the options and the order of work; each other file knows one thing: the layout of an archive
(:mod:`.safe`, :mod:`.folder`, :mod:`.stac`), where parcels lie (:mod:`.tiles`), how much of each pixel they cover
(:mod:`.coverage`), the sums over them (:mod:`.statistics`), and who computes which unit (:mod:`.engine`).
"""
