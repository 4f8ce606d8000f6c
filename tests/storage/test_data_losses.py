from entigraph.storage.data_losses import DataLoss, collect_data_losses, merge_data_losses, render_data_losses


def test_only_losses_that_occurred_are_collected() -> None:
    losses = collect_data_losses([DataLoss("files have no document", 2, 10), DataLoss("questions are left out", 0)])
    assert losses == {"files have no document": {"count": 2, "total": 10}}
    assert render_data_losses(losses) == "2 of 10 files have no document"
    assert render_data_losses({}) == ""


def test_merged_losses_are_the_largest_of_each_kind() -> None:
    one = collect_data_losses([DataLoss("files have no document", 2, 10), DataLoss("requests failed", 1, 9)])
    other = collect_data_losses([DataLoss("files have no document", 3, 12)])
    merged = merge_data_losses([one, other])
    rendered = render_data_losses(merged, up_to=True)
    assert rendered == "up to 3 of 12 files have no document; up to 1 of 9 requests failed"


def test_unknown_total_is_omitted() -> None:
    losses = collect_data_losses([DataLoss("questions are left out", 1_200)])
    assert render_data_losses(losses) == "1,200 questions are left out"


def test_single_item_is_singular() -> None:
    one = {"questions are left out with a skipped file": {"count": 1, "total": None}}
    assert render_data_losses(one) == "1 question is left out with a skipped file"
