"""What is shown of an entry of results.json."""

from atrous.evaluation.entry import interval_text


def test_an_interval_is_that_of_its_score_in_percent() -> None:
    entry = {"confidence": {"miou": [0.5, 0.625], "pixel_accuracy": [0.75, 1.0]}}
    assert interval_text(entry, form=".2f") == "50.00 to 62.50"
    assert interval_text(entry, "pixel_accuracy", unit="%") == "75.0 to 100.0%"
    assert interval_text({"confidence": {"miou": None}}) == interval_text({"confidence": None}) == ""
