"""CSV as spreadsheets read it."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def text_cell(text: str) -> str:
    """Names come from other platforms too, and a spreadsheet would compute a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
