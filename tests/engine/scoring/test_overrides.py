"""Overrides of a finished run that change nothing are named."""

from engine.scoring.overrides import told_of_no_effect


def test_what_a_pack_holds_already_is_named_for_packs_alone() -> None:
    typed = ["data.ids={0: 1}", "data.folder.values=binary", "data.foldername=x", "data.root=y"]
    told = told_of_no_effect(typed, ["native"], data_format="packed")
    assert [line.split()[0] for line in told] == ["data.ids", "data.folder.values"]
    assert told_of_no_effect(typed, ["native"], data_format="folder") == []
