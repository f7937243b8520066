"""Which national crop codes form which TimeMatch class, as published with the data set.

Source: class_mapping/*.yml of https://github.com/jnyborg/timematch, spring and winter forms kept apart (its default).
Codes that are not named here belong to no class; the original calls them all ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping

_DENMARK = {
    "meadow": "251 252 276 255 250 254 257 278 248 256 488 286 287 274 260 263 267 264 268 247 266 261 270 253 285 262 "
    "306 170 101 102 103 117 116 104",
    "corn": "216 5 423",
    "spring_barley": "1 210 701",
    "winter_barley": "10 220 706",
    "spring_wheat": "2 6 211 702",
    "winter_wheat": "11 13 221 707",
    "spring_rapeseed": "21",
    "winter_rapeseed": "22",
    "spring_oat": "3 212 703",
    "winter_oat": "57",
    "winter_triticale": "16 223 711",
    "spring_triticale": "56",
    "spring_rye": "55 704",
    "winter_rye": "15 14 222 709",
    "horsebeans": "31",
    "spring_peas": "424 30 215",
}
_FRANCE = {
    "meadow": "PPH PRL PTR RGA GFP LU5 LU6 LU7 LUD LUZ MEL TR5 TR6 TR7 TRD TRE MH5 MH6 MH7 MLG",
    "corn": "MIS MIE MID",
    "spring_barley": "ORP",
    "winter_barley": "ORH",
    "winter_wheat": "BTH BDH",
    "spring_wheat": "BTP BDP",
    "spring_rapeseed": "CZP",
    "winter_rapeseed": "CZH",
    "spring_oat": "AVP",
    "winter_oat": "AVH",
    "winter_triticale": "TTH",
    "spring_triticale": "TTP",
    "horsebeans": "FVL FF6 FF7 FFO",
    "spring_peas": "PPR PP7 PPO PFP",
    "winter_peas": "PHI PH6 PH7 PFH",
    "spring_rye": "SGP",
    "winter_rye": "SGH",
    "sunflowers": "TRN",
}
_AUSTRIA = {
    "meadow": "717 716 634 715 636 990 637 633 635",
    "corn": "105 109 106 173 107",
    "spring_barley": "111",
    "winter_barley": "110",
    "winter_wheat": "138",
    "spring_wheat": "137",
    "spring_rapeseed": "302",
    "winter_rapeseed": "301",
    "spring_oat": "155",
    "winter_triticale": "116",
    "spring_triticale": "157",
    "horsebeans": "202",
    "spring_peas": "115 201",
    "spring_rye": "141",
    "winter_rye": "142",
    "sunflowers": "307",
}


def _by_code(classes: Mapping[str, str]) -> dict[str, str]:
    return {code: name for name, codes in classes.items() for code in codes.split()}


PUBLISHED: dict[str, dict[str, str]] = {
    "austria": _by_code(_AUSTRIA),
    "denmark": _by_code(_DENMARK),
    "france": _by_code(_FRANCE),
}
COUNTRIES = {"austria": "AT", "denmark": "DK", "france": "FR"}
